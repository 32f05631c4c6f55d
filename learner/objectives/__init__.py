"""What is minimised, by name: `config.objective`."""

from __future__ import annotations

from collections.abc import Callable

from actors.policy import Policy
from configs.schema import Config
from learner.objectives.objective import Loss, Objective
from learner.objectives.ppo import Ppo
from learner.objectives.vtrace import VTrace
from learner.rtrl.rtrl import Rtrl

OBJECTIVES: dict[str, Callable[[Policy, Config, Rtrl | None], Objective]] = {
    "vtrace": VTrace,
    "ppo": Ppo,
}

__all__ = ["OBJECTIVES", "Loss", "Objective"]
