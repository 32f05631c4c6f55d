"""Named experiments: a file each, which says what is compared, on what budget, and what would be claimed.

`launch.py experiment NAME` runs the file of that name; `experiments/runner.py` is the runner.
"""

from __future__ import annotations

import importlib
import pkgutil
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import tyro

from configs.presets import preset
from configs.schema import Config, ConfigError

Plot = Literal["curve", "sweep"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One setting that is run once for every seed."""

    preset: str
    overrides: str = ""
    """More of `launch.py train PRESET`'s command line, as it would be typed."""
    after: str = ""
    """An arm whose run on the same seed this one takes something of: it runs first, and `{before}` in
    `overrides` stands for its run directory."""
    total_steps: int | None = None
    """Agent steps; None: the experiment's."""
    series: str = ""
    """Sweep only: the line that this arm is a point of."""
    x: float | None = None
    """Sweep only: the value of the swept parameter."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What `launch.py experiment NAME` runs, and how its result is summed up and drawn."""

    name: str
    description: str
    """One paragraph: what is compared, and what the result would and would not show."""
    arms: dict[str, Arm]
    common: str = ""
    """Of all arms, before their own overrides, which win."""
    first: tuple[str, ...] = ()
    """Arms that are run where none is named; empty: all of them."""
    total_steps: int
    """Agent steps of a run, unless the arm says otherwise."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    metric: str
    """Name of what is measured, such as `success`."""
    reads: str = "charts/window_return"
    """The number in the rows of a run's metrics.jsonl that the metric is made of, a mean over the games that
    `charts/episodes` or `eval/episodes` counts."""
    of_return: Callable[[float], float] = float
    """The metric from that number, such as a mean return of some games; linear, since it is given means."""
    lower_is_better: bool = False
    chance: float | None
    """The metric of a policy without memory; None where it differs by arm, or an arm measures it."""
    best: float | None = None
    """The best that can be had, where it is known."""
    solved: float
    """A run whose metric over the last tenth of its training is as good as this has solved the task: at least
    this, or at most, where lower is better."""
    digits: int = 3
    """Decimals of the metric in the table."""
    beside: str | None = None
    """Another number in a run's rows, whose mean over the whole run is put beside the metric."""
    plot: Plot = "curve"
    """`curve`: the metric against agent steps; `sweep`: its last tenth against `Arm.x`."""
    x_label: str = "agent steps"
    log_x: bool = False

    def __post_init__(self) -> None:
        for name, arm in self.arms.items():
            swept = arm.series != "" and arm.x is not None
            assert arm.after in ("", *self.arms), f"{self.name}.{name}: no arm {arm.after!r} to come after"
            assert swept == (self.plot == "sweep"), f"{self.name}.{name}: a sweep's arms have series and x"

    @property
    def levels(self) -> str:
        """What the metric is to be compared with, in words."""
        if self.chance is None:
            return "what a policy without memory has is an arm, if it is known"
        if self.best is None:
            return f"chance is {self.chance:g}"
        return f"without memory {self.chance:.4g} at best, with it {self.best:.4g}"

    def overrides(self, arm: str) -> str:
        return f"{self.common} {self.arms[arm].overrides}".strip()

    def config(self, arm: str, more: str = "") -> Config:
        """What the arm's command line makes; `more` of it wins."""
        words = shlex.split(f"{self.overrides(arm)} {more}")
        return tyro.cli(Config, default=preset(self.arms[arm].preset), args=words)

    def is_solved(self, value: float) -> bool:
        return value <= self.solved if self.lower_is_better else value >= self.solved

    def steps(self, arm: str) -> int:
        return self.arms[arm].total_steps or self.total_steps


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get(name: str) -> Experiment:
    """The experiment of that name. Raises ConfigError, with those that exist, for an unknown one."""
    if name not in names():
        near = get_close_matches(name, names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown experiment {name!r}.{hint} Experiments: {', '.join(names())}")
    experiment: Experiment = importlib.import_module(f"{__name__}.{name}").EXPERIMENT
    assert experiment.name == name
    return experiment
