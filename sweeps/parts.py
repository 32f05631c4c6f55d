"""The branches of a sweep's description, each checked at construction. `sweeps/space.py` is the root."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from configs.error import require


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Where the values of a trial come from."""

    name: Literal["random", "optuna"] = "random"
    """`optuna`: its TPE sampler, from the ends of the trials before."""
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.seed >= 0, "search.seed", self.seed, "cannot be negative")


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """Which trials are stopped, or go on from another's weights."""

    name: Literal["none", "asha", "pbt"] = "none"
    grace_steps: int | None = None
    """asha: steps that every trial gets; None: `interval_steps`."""
    reduction_factor: int = 3
    """asha: of the trials that come to a rung, one in so many goes on to the next, so many times as far."""
    mutate: list | None = None
    """pbt: the fields of the space that change when a member goes on from another's weights; None: all."""
    quantile: float = 0.25
    """pbt: this share of the members, the worst, goes on from the best of the same share."""
    resample: float = 0.25
    """pbt: probability that a field is drawn anew, where it else moves by a factor of 0.8 or 1.2, or to the
    neighbour in its list."""

    def __post_init__(self) -> None:
        for name in ("grace_steps", "reduction_factor", "mutate", "quantile", "resample"):
            value, owner = (
                getattr(self, name),
                "asha" if name in ("grace_steps", "reduction_factor") else "pbt",
            )
            default = next(f.default for f in dataclasses.fields(self) if f.name == name)
            remedy = f"belongs to {owner}, and scheduler.name is {self.name!r}: leave it out"
            require(self.name == owner or value == default, f"scheduler.{name}", value, remedy)
        value = self.grace_steps
        require(value is None or value >= 1, "scheduler.grace_steps", value, "needs at least 1")
        value = self.reduction_factor
        require(value >= 2, "scheduler.reduction_factor", value, "needs at least 2")
        require(0 < self.quantile <= 0.5, "scheduler.quantile", self.quantile, "lies in (0, 0.5]")
        require(0 <= self.resample <= 1, "scheduler.resample", self.resample, "lies in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class ResourcesConfig:
    """What a trial takes of the cluster, on one node."""

    cpus: float = 1.0
    """Parts are allowed: 0.5 puts two trials on a CPU."""
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("cpus", 0.01), ("gpus", 0.0)):
            value = getattr(self, name)
            good = math.isfinite(value) and value >= least and (value <= 1 or value == int(value))
            remedy = f"a whole number, or a part of one of at least {least:g}"
            require(good, f"resources.{name}", value, remedy)
