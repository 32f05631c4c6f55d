"""MuJoCo's bodies with half of their state hidden: `mujoco/HalfCheetah-P` shows positions, `-V` velocities.

Gymnasium's version 5 of each body. Which numbers of an observation are positions (qpos) and which velocities
(qvel) is what the environment's own `observation_structure` says; whatever else it observes (contact forces
of Ant, inertias of Humanoid) is hidden as well. HalfCheetah has 8 positions and 9 velocities: the split of
arXiv 2409.01449's released code, 9 and 8, shows the root's velocity among the positions. Nothing is
normalised here (`policy.normalise_observations`).

`mujoco/Reacher-G` shows the goal at an episode's first step only, and zeros in its place later; episodes of
100 steps. So pobax defines its ReacherPOMDP; how the paper masks its Reacher is not known. The way from the
fingertip to the goal, which Gymnasium's body observes as well, would give it away: it is hidden at every
step. The reward tells the distance to the goal, so `--policy.no-previous-reward` belongs to the task.
"""

from __future__ import annotations

import logging
import re
from functools import cache, partial
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation
from numpy.typing import NDArray

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
_STRUCTURES = {"InvertedDoublePendulum-v5": {"qpos": 5, "qvel": 3, "qfrc_constraint": 1}}
"""Of bodies that do not tell theirs. Positions: the cart's place, sines and cosines of both angles."""
_REACHER = "mujoco/Reacher-G"
REACHER_STEPS = 100


@cache
def _log_warning(text: str) -> None:
    """Once for each text. MuJoCo itself would write it into a file of the working directory, every time."""
    logging.getLogger("mujoco").warning(text)


mujoco.set_mju_user_warning(_log_warning)  # pyright: ignore[reportAttributeAccessIssue]


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return (*_GYM_IDS, _REACHER)


class GoalAtFirst(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Reacher-v5's cosines and sines of both joints [4], goal [2], velocities of both joints [2]. The goal is
    seen at the first step, and is 0 afterwards."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(-np.inf, np.inf, (8,), np.float64)

    def reset(self, **options: Any) -> tuple[NDArray[np.float64], dict[str, Any]]:
        observation, info = self.env.reset(**options)
        return observation[:8], info

    def step(self, action: Any) -> tuple[NDArray[np.float64], Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        shown = np.concatenate([observation[:4], np.zeros(2), observation[6:8]])
        return shown, reward, terminated, truncated, info


def _make_one(env_id: str, **options: Any) -> gymnasium.Env[Any, Any]:
    if env_id == _REACHER:
        options["max_episode_steps"] = REACHER_STEPS
        return GoalAtFirst(make_registered(env_id, "Reacher-v5", **options))
    env = make_registered(env_id, _GYM_IDS[env_id], **options)
    structure: dict[str, int] | None = getattr(env.unwrapped, "observation_structure", None)
    structure = structure or _STRUCTURES.get(_GYM_IDS[env_id])
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


def make(config: EnvConfig, first_stream: int) -> GymVecEnv:
    return GymVecEnv(config.id, config.num_envs, partial(_make_one, config.id))


def make_drawn(config: EnvConfig) -> DrawnGymVecEnv | None:
    return make_drawing(config.id, partial(_make_one, config.id))
