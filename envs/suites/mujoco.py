"""MuJoCo's bodies with half of their state hidden: `mujoco/HalfCheetah-P` shows positions, `-V` velocities.

Gymnasium's version 5 of each body. Which numbers of an observation are positions (qpos) and which velocities
(qvel) is what the environment's own `observation_structure` says; whatever else it observes (contact forces
of Ant, inertias of Humanoid) is hidden as well. HalfCheetah has 8 positions and 9 velocities: the split of
arXiv 2409.01449's released code, 9 and 8, shows the root's velocity among the positions. Nothing is
normalised.
"""

from __future__ import annotations

import logging
import re
from functools import cache, partial
from typing import Any

import gymnasium
import mujoco
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation

from configs.schema import EnvConfig
from envs.guard import close_env
from envs.spec import EnvError
from envs.suites.gym.env import DrawnGymVecEnv, GymVecEnv, make_drawing, make_registered

_SHOWN = {"P": "qpos", "V": "qvel"}
_GYM_IDS = {
    f"mujoco/{match[1]}-{shown}": gym_id
    for gym_id, spec in gymnasium.registry.items()
    if (match := re.fullmatch(r"(\w+)-v5", str(gym_id)))
    and str(spec.entry_point).startswith("gymnasium.envs.mujoco")
    for shown in _SHOWN
}


@cache
def _log_warning(text: str) -> None:
    """Once for each text. MuJoCo itself would write it into a file of the working directory, every time."""
    logging.getLogger("mujoco").warning(text)


mujoco.set_mju_user_warning(_log_warning)  # pyright: ignore[reportAttributeAccessIssue]


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return tuple(_GYM_IDS)


def _make_one(env_id: str, **options: Any) -> gymnasium.Env[Any, Any]:
    env = make_registered(env_id, _GYM_IDS[env_id], **options)
    structure: dict[str, int] | None = getattr(env.unwrapped, "observation_structure", None)
    if structure is None:
        close_env(env_id, env)
        raise EnvError(
            f"env.id = {env_id!r}: {_GYM_IDS[env_id]} does not say which of its observations are positions "
            "and which velocities (it has no observation_structure); take a body that does: mujoco/Hopper-P"
        )
    whole = env.observation_space
    assert isinstance(whole, spaces.Box) and whole.shape is not None
    lengths = {name: length for name, length in structure.items() if not name.startswith("skipped")}
    assert list(lengths)[:2] == ["qpos", "qvel"] and sum(lengths.values()) == whole.shape[0], structure
    first = 0 if env_id.endswith("-P") else lengths["qpos"]
    kept = slice(first, first + lengths[_SHOWN[env_id[-1]]])
    space = spaces.Box(whole.low[kept], whole.high[kept], dtype=whole.dtype.type)
    return TransformObservation(env, lambda observation: observation[kept], space)


def make(config: EnvConfig, actor_id: int) -> GymVecEnv:
    return GymVecEnv(config.id, config.num_envs, partial(_make_one, config.id))


def make_drawn(config: EnvConfig) -> DrawnGymVecEnv | None:
    return make_drawing(config.id, partial(_make_one, config.id))
