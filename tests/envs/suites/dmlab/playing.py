"""What the tests of DeepMind Lab share: levels of the stand-in, and how its images are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.spec import VecEnv
from envs.suites.dmlab.env import DmlabVecEnv
from tests.envs.suites.dmlab.fake_deepmind_lab import EPISODE_FRAMES, SEED_CHANNEL

ROOM = "dmlab/tests/empty_room_test"
GOALS = "dmlab/explore_goal_locations_small"
STEPS = -(-EPISODE_FRAMES // 4)
"""Of an episode: the last one ends inside its four frames."""
FORWARD, BACKWARD = 0, 1
SEED, FRAME, HISTORY = range(3)
"""Rows of the stand-in's images."""

Build = Callable[..., DmlabVecEnv]


def number(observation: NDArray[np.uint8], row: int) -> list[int]:
    """What the stand-in wrote into each slot's image."""
    return [int.from_bytes(image[SEED_CHANNEL, row, :4].tobytes(), "little") for image in observation]


def logged(log: Path) -> list[dict[str, Any]]:
    """What each of the stand-in's engines was made of."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def everyone(action: int, env: VecEnv) -> NDArray[np.int64]:
    return np.full(env.num_envs, action)
