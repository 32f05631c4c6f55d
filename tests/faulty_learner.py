"""An env whose module does something to the learner, for fault tests: `tests.faulty_learner:Plain-v0`.

What, and when, is read from a file named by EVERTRACE_LEARNER_FAULT: `kind update times`. `times` counts down
in the file, so that a learner that was started anew may find the fault gone. Kinds: `raise` (an error that
nobody knows), `memory` (torch is asked for more than any machine has), `nan` (a weight is not finite),
`config` (a ConfigError), `hang` (the loop does not come round, while other threads do), `kill`; and of a
save, `unsaved` (killed before it), `saved` (killed after it) and `slow` (it takes seconds).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import gymnasium
import torch

from tests.faulty_env import Faulty

LEARNER_FAULT = "EVERTRACE_LEARNER_FAULT"
AT_UPDATES = ("raise", "memory", "nan", "config", "hang", "kill")
AT_SAVES = ("unsaved", "saved", "slow")
SLOW_S = 6.0
"""Longer than Ray's processes live on where all are asked to end."""


def _due(updates: int, kinds: Collection[str]) -> str | None:
    path = Path(os.environ[LEARNER_FAULT])
    if not path.exists():
        return None
    kind, after, times = path.read_text().split()
    if kind not in kinds or updates < int(after) or int(times) == 0:
        return None
    path.write_text(f"{kind} {after} {int(times) - 1}")
    return kind


def _spoil(learner: Any, kind: str) -> None:
    if kind == "raise":
        raise RuntimeError("the learner broke")
    if kind == "memory":
        torch.empty(2**60)
    if kind == "config":
        from configs.schema import ConfigError

        raise ConfigError("total_steps = 1: the learner does not want it")
    if kind == "nan":
        with torch.no_grad():
            next(learner.policy.parameters()).fill_(float("nan"))
    if kind == "hang":
        threading.Event().wait()
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def _install(learner_class: Any, state_class: Any) -> None:
    launch, save = learner_class.launch, state_class.save

    def spoiled(self: Any, batch: Any, steps: int) -> None:
        kind = _due(self.updates, AT_UPDATES)
        if kind is not None:
            _spoil(self, kind)
        launch(self, batch, steps)

    def last_save(self: Any, **options: Any) -> Any:
        kind = _due(self._learner.updates, AT_SAVES)
        if kind == "unsaved":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "slow":
            threading.Event().wait(SLOW_S)
        path = save(self, **options)
        if kind == "saved":
            os.kill(os.getpid(), signal.SIGKILL)
        return path

    learner_class.launch, state_class.save = spoiled, last_save


if LEARNER_FAULT in os.environ and "learner.run_state" in sys.modules:  # where somebody learns: not in actors
    _install(sys.modules["learner.learner"].Learner, sys.modules["learner.run_state"].RunState)


class Plain(Faulty):
    """Without a fault of its own."""


gymnasium.register("Plain-v0", Plain)
