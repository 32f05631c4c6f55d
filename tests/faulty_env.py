"""Gymnasium envs that fail on demand, for fault tests: `tests.faulty_env:Faulty-v0`.

What goes wrong, and when, is read from a file named by EVERTRACE_FAULT: `kind after_steps times`. `times`
counts down in the file, under a lock, so that a restarted worker may find the fault gone, and that of two
workers at the same step one takes the last fault and the other goes on.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

FAULT_VARIABLE = "EVERTRACE_FAULT"


class Faulty(gymnasium.Env[np.ndarray, np.int64]):
    """Ten-step episodes; the observation is the step index."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1e6, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._steps = self._index = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._index = 0
        self._fail("reset")
        return np.zeros(1, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        self._index += 1
        self._fail("step")
        reward = float("nan") if self._due("nan") else 1.0
        width = 2 if self._due("shape") else 1
        return np.full(width, self._index, np.float32), reward, self._index == 10, False, {}

    def _due(self, kind: str) -> bool:
        path = os.environ.get(FAULT_VARIABLE)
        if path is None or not Path(path).exists():
            return False
        with Path(path).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
            what, after, times = file.read().split()
            if what != kind or self._steps < int(after) or int(times) == 0:
                return False
            file.seek(0)
            file.write(f"{what} {after} {int(times) - 1}")
            file.truncate()
        return True

    def _fail(self, where: str) -> None:
        if self._due(where):
            raise RuntimeError(f"the emulator broke in {where}")
        if where == "step" and self._due("exit"):
            sys.exit(0)
        if where == "step" and self._due("abort"):
            os.abort()
        if where == "step" and self._due("hang"):
            time.sleep(600)


gymnasium.register("Faulty-v0", Faulty)
