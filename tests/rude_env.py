"""An environment that does to its process whatever it likes, for tests: `tests.rude_env:Rude-v0`.

EVERTRACE_RUDE says what, in words: `state` (sets torch's defaults, the output streams, the working directory,
signal handlers), `exit-make`, `exit-reset`, `exit-step` (leaves by sys.exit(0)), `interrupt-step`, `close`
(raises when it is closed), `nan` (one number of the seventh observation of each env), `inf-reward`.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
from typing import Any

import gymnasium
import numpy as np
import torch

RUDE_VARIABLE = "EVERTRACE_RUDE"


class Rude(gymnasium.Env[Any, np.int64]):
    """Ten-step episodes; the observation is the step index."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Dict(
            {"index": gymnasium.spaces.Box(0.0, 1e6, (3,), np.float32), "other": gymnasium.spaces.Discrete(2)}
        )
        self.action_space = gymnasium.spaces.Discrete(2)
        self._ways = os.environ.get(RUDE_VARIABLE, "").split()
        self._index = self._steps = 0
        self._leave("make")
        if "state" in self._ways:
            spoil(tempfile.gettempdir())

    def _leave(self, where: str) -> None:
        if f"exit-{where}" in self._ways:
            sys.exit(0)
        if f"interrupt-{where}" in self._ways:
            raise KeyboardInterrupt

    def _observation(self) -> dict[str, Any]:
        index = np.full(3, self._index, np.float32)
        if "nan" in self._ways and self._steps == 7:
            index[1] = np.nan
        return {"index": index, "other": 0}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._leave("reset")
        self._index = 0
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._leave("step")
        if "state" in self._ways:
            assert torch.zeros(1).dtype == torch.float64, "its own setting is there when its code runs"
            assert os.getcwd() == os.path.realpath(tempfile.gettempdir())
            assert isinstance(sys.stdout, io.StringIO)
        self._steps += 1
        self._index += 1
        reward = np.inf if "inf-reward" in self._ways and self._steps == 7 else 1.0
        return self._observation(), float(reward), self._index == 10, False, {}

    def close(self) -> None:
        if "close" in self._ways:
            raise RuntimeError("it does not want to be closed")


def spoil(folder: str) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_default_device("meta")
    np.seterr(all="raise")
    sys.stdout = io.StringIO()
    sys.stderr = io.StringIO()
    os.chdir(folder)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


gymnasium.register("Rude-v0", Rude)
