"""A Gymnasium env whose episode never ends: `tests.endless_env:Endless-v0`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class Endless(gymnasium.Env[np.ndarray, np.int64]):
    """A reward of 1 at every 25th step."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return np.ones(3, np.float32), float(self._steps % 25 == 0), False, False, {}


gymnasium.register("Endless-v0", entry_point=Endless, disable_env_checker=True)
