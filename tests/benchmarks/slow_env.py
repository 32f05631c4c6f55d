"""An env whose steps take time and no core: `tests.benchmarks.slow_env:Slow-v0`."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np

STEP_S = 0.005


class Slow(gymnasium.Env[np.ndarray, np.int64]):
    """Ten-step episodes; the observation is the step index."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1e6, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._index = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._index = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        time.sleep(STEP_S)
        self._index += 1
        return np.full(1, self._index, np.float32), 1.0, self._index == 10, False, {}


gymnasium.register("Slow-v0", Slow)
