"""An environment that can be told to take its process with it; found on PYTHONPATH, as a user's own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

ORDER_VARIABLE = "EVERTRACE_DYING"
"""Path of a file: whoever finds it takes it away, prints what it holds, and aborts."""

BAD_NODE_VARIABLE = "EVERTRACE_BAD_NODE"
"""Where it is set no environment can be reset."""


STEP_S = 0.002
"""A step takes time and no core: what these tests wait for, Ray's timers and processes that start, comes no
sooner for envs that keep all cores busy."""


class Dying(gymnasium.Env[np.ndarray, np.int64]):
    """Ten-step episodes; the observation is the step index."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1e6, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._index = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if BAD_NODE_VARIABLE in os.environ:
            raise RuntimeError("this node breaks its environments")
        self._index = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        time.sleep(STEP_S)
        self._index += 1
        order = Path(os.environ[ORDER_VARIABLE])
        if order.exists():
            mine = order.with_name(f"taken-{os.getpid()}")
            try:
                order.rename(mine)
            except FileNotFoundError:  # another process was faster
                pass
            else:
                print(mine.read_text())
                os.abort()
        return np.full(1, self._index, np.float32), 1.0, self._index == 10, False, {}


gymnasium.register("Dying-v0", Dying)
