"""MiniGrid (Chevalier-Boisvert et al. 2023, arXiv 2306.13831): grid worlds seen from within.

`minigrid/MemoryS7` and so on: the name is MiniGrid's own without `MiniGrid-` and its version, of which it
is the newest. A cell of the 7 x 7 view is three numbers, what kind of object, its colour, its state; a
policy gets them as one-hot planes, and the direction that the agent faces. The mission is left out where it
never changes; elsewhere it is a part of its own, the numbers of its words. The WFC mazes are left out: the
package comes without the images that they are made from.

Played by the package minigrid, the original, which has all of its environments and is what published
results are of. The view alone is computed here (minigrid_view.py), which makes a step three times cheaper:
28 thousand a second on one core. envpool has a reimplementation, some nine times faster again but
300 MB, with other levels from the same seed.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

import gymnasium
import minigrid  # noqa: F401  (registers the environments)
import numpy as np
from gymnasium import spaces
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import NDArray

from configs.schema import EnvConfig
from envs.suites.gym.env import DrawnGymVecEnv, GymVecEnv, make_drawing, make_registered
from envs.suites.minigrid_view import use_fast_view

PLANES = (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX))
"""Kinds of objects, colours and states: of so many numbers is a cell's each one-hot."""
DIRECTIONS = 4
AnyVecEnv = TypeVar("AnyVecEnv", bound=GymVecEnv)
_MISSION_CHARACTERS = 200

_GYM_IDS: dict[str, str] = {}
for _id in gymnasium.registry:
    if _match := re.fullmatch(r"MiniGrid-(?!WFC)(.+)-v(\d+)", str(_id)):
        _name = f"minigrid/{_match[1]}"
        if int(_match[2]) >= int(_GYM_IDS.get(_name, "v0").rpartition("v")[2]):
            _GYM_IDS[_name] = str(_id)


class OneHotPlanes(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Observation: float32 [7 * 7 * 20 + 4], cell by cell (kind, colour, state), then the direction.
    With a mission that changes, a dictionary of this `vector` and the `mission`."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        inner: Any = env.observation_space
        cells, width = math.prod(inner["image"].shape[:2]), sum(PLANES)
        self._at = (np.arange(cells)[:, None] * width + np.cumsum([0, *PLANES[:2]])).reshape(-1)
        self._size = cells * width
        self._changing = inner["mission"].ordered_placeholders is not None
        vector = spaces.Box(0.0, 1.0, (self._size + DIRECTIONS,), np.float32)
        self.observation_space = (
            spaces.Dict(mission=spaces.Text(_MISSION_CHARACTERS), vector=vector) if self._changing else vector
        )

    def observation(self, observation: dict[str, Any]) -> NDArray[np.float32] | dict[str, Any]:
        vector = np.zeros(self._size + DIRECTIONS, np.float32)
        vector[self._at + observation["image"].reshape(-1)] = 1.0
        vector[self._size + observation["direction"]] = 1.0
        return {"mission": observation["mission"], "vector": vector} if self._changing else vector


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return tuple(_GYM_IDS)


def _make_one(env_id: str, **options: Any) -> gymnasium.Env[Any, Any]:
    env = make_registered(env_id, _GYM_IDS[env_id], **options)
    use_fast_view(cast(MiniGridEnv, env.unwrapped))
    return OneHotPlanes(env)


def make(config: EnvConfig, first_stream: int) -> GymVecEnv:
    return _described(GymVecEnv(config.id, config.num_envs, partial(_make_one, config.id)))


def make_drawn(config: EnvConfig) -> DrawnGymVecEnv | None:
    env = make_drawing(config.id, partial(_make_one, config.id))
    return None if env is None else _described(env)


def _described(env: AnyVecEnv) -> AnyVecEnv:
    shape = env.spec.observation_shape
    name = "vector" if isinstance(shape, dict) else ""
    end = (shape[name] if name else shape)[0]
    # Of the cells' planes most never change, and what matters is rare: normalisation reads them as measured.
    env.spec = replace(env.spec, coded=((name, end - DIRECTIONS, end),))
    return env
