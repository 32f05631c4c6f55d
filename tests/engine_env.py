"""A Gymnasium env whose engine is a process of its own, which can be stopped: `tests.engine_env:Engine-v0`.

The engine is `cat`: each step goes to it and back. It ends when the env's process does, by its closed input.
"""

from __future__ import annotations

import subprocess
from typing import Any

import gymnasium
import numpy as np


class Engine(gymnasium.Env[np.ndarray, np.int64]):
    """Ten-step episodes; the observation is the step index, as the engine says it."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1e6, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._engine = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._index = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._index = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self._engine.stdin is not None and self._engine.stdout is not None
        self._engine.stdin.write(bytes([self._index + 1]))
        (self._index,) = self._engine.stdout.read(1)
        return np.full(1, self._index, np.float32), 1.0, self._index == 10, False, {}

    def close(self) -> None:
        assert self._engine.stdin is not None
        assert self._engine.stdout is not None
        self._engine.stdin.close()
        self._engine.stdout.close()
        self._engine.wait()


gymnasium.register("Engine-v0", Engine)
