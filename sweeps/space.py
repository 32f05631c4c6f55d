"""`SPACE.yaml`: what `launch.py sweep` searches. docs/sweeps.md is the user's page.

    preset: memory_rtrl
    fixed: {total_steps: 100000}                   fields of the config, by their dotted names
    space:                                         choice, grid: a list; uniform, loguniform, int: [low, high]
      learning_rate: {loguniform: [1e-4, 1e-2]}
    samples: 8                                     of all but grids; each is combined with every grid
    metric: charts/episodic_return
    mode: max
    interval_steps: 5000                           agent steps between two reports of a trial
    search: {name: random, seed: 0}
    scheduler: {name: asha, grace_steps: 10000}
    resources: {cpus: 1, gpus: 0}                  of one trial

Values of a field are the config's, which is built of all of them here: nothing is found wrong later.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from configs.effect import refuse_without_effect
from configs.error import require
from configs.identity import MAY_BE_TUNED
from configs.layout import laid_out
from configs.presets import preset
from configs.schema import Config, ConfigError
from configs.serial import build, leaves
from learner.records.metrics import spec_of
from sweeps.parts import ResourcesConfig, SchedulerConfig, SearchConfig

RANGES = ("uniform", "loguniform", "int")
KINDS = ("choice", "grid", *RANGES)
OURS = (
    *("preset", "run_dir", "log_interval_s", "log_interval_steps", "checkpoint.interval_s"),
    *("checkpoint.interval_steps", "ray.address", "ray.follow_cluster"),
)
"""Fields that the sweep sets."""
SMALL_S = 1e-9
"""Of an interval in seconds, so that its steps alone decide."""
MOST_COMBINED = 2000
"""Combinations of values that are built to see whether they are good."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """A sweep, complete."""

    preset: str
    fixed: dict = field(default_factory=dict)
    """Values by dotted name."""
    space: dict
    """{kind: values} by dotted name."""
    samples: int
    metric: str
    """Of metrics.jsonl; what a trial reports is its newest value."""
    mode: Literal["max", "min"] = "max"
    interval_steps: int
    search: SearchConfig = field(default_factory=SearchConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    max_failures: int = 3
    """Of one trial, which goes on from its checkpoint after each of them."""

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("interval_steps", 1), ("max_failures", 0)):
            require(getattr(self, name) >= least, name, getattr(self, name), f"needs at least {least}")
        require(
            bool(self.space), "space", self.space, "needs a field: learning_rate: {loguniform: [1e-4, 1e-2]}"
        )
        base = preset(self.preset)
        known = dict(leaves(base))
        for part in ("fixed", "space"):
            for name in getattr(self, part):
                near = get_close_matches(str(name), known, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                remedy = f"no field of the config. {hint}`launch.py train {self.preset} --help` lists them"
                require(name in known, f"{part}.{name}", getattr(self, part)[name], remedy)
                require(
                    name not in OURS,
                    f"{part}.{name}",
                    getattr(self, part)[name],
                    "the sweep sets it: leave it out",
                )
        for name, values in self.space.items():
            _check_values(f"space.{name}", values)
            require(
                name not in self.fixed,
                f"fixed.{name}",
                self.fixed.get(name),
                "is in the space too: leave one out",
            )
        try:
            spec_of(self.metric)
        except KeyError as error:
            raise ConfigError(
                f"metric = {self.metric!r}: no metric of a run; docs/metrics.md lists them"
            ) from error
        configs = list(self._checked())
        self._check_plan(configs)

    # --- configs -------------------------------------------------------------------------------

    def config(self, values: Mapping[str, Any]) -> Config:
        """The config of a trial with these values of the fields of the space; no run directory yet.

        Raises ConfigError for values that do not fit.
        """
        settings = self.settings(values)
        tree = json.loads(preset(self.preset).to_json())
        for name, value in settings.items():
            *branch, last = name.split(".")
            place = tree
            for part in branch:
                place = place[part]
            place[last] = value
        config = build(Config, tree, "config")
        refuse_without_effect(config, [*self.fixed, *values])
        return config

    def first(self) -> Config:
        """The config of a trial with the first of all values."""
        return self.config({name: next(iter(kind.values()))[0] for name, kind in self.space.items()})

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """By dotted name, what a trial's config has in the place of its preset's."""
        ours = {
            "log_interval_s": SMALL_S,
            "log_interval_steps": self.interval_steps,
            "checkpoint.interval_s": SMALL_S,
            "checkpoint.interval_steps": self.interval_steps,
        }
        return {"wandb.mode": "disabled"} | self.fixed | dict(values) | ours

    @property
    def trials(self) -> int:
        """How many there will be."""
        return self.samples * math.prod(len(kind["grid"]) for kind in self.space.values() if "grid" in kind)

    @property
    def mutated(self) -> list[str]:
        """pbt: the fields that change."""
        return list(self.space) if self.scheduler.mutate is None else self.scheduler.mutate

    def bounds(self, name: str) -> tuple[float, float] | None:
        """Least and greatest value of a range; None of a list."""
        ((kind, values),) = self.space[name].items()
        return (values[0], values[1]) if kind in RANGES else None

    def _checked(self) -> Iterator[Config]:
        """Configs of the values that a trial may get: all lists combined with the ends of all ranges, or,
        where these are very many, each value beside the first ones of the others. Raises ConfigError."""
        lists = {name: next(iter(kind.values())) for name, kind in self.space.items()}
        first = {name: values[0] for name, values in lists.items()}
        if math.prod(map(len, lists.values())) <= MOST_COMBINED:
            combined = (
                dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())
            )
        else:
            combined = (first | {name: value} for name, values in lists.items() for value in values)
        for values in combined:
            try:
                yield self.config(values)
            except ConfigError as error:
                told = ", ".join(f"{name} = {value!r}" for name, value in values.items())
                raise ConfigError(f"{error} (a trial with {told})") from error

    def _check_plan(self, configs: list[Config]) -> None:
        """What search, scheduler, metric and resources ask of the trials' configs."""
        shortest = min(config.total_steps for config in configs)
        remedy = f"a trial of total_steps = {shortest} would not report in between: lower it"
        require(self.interval_steps < shortest, "interval_steps", self.interval_steps, remedy)
        evaluated = all(config.eval.interval_steps for config in configs)
        remedy = "is of evaluations, and a trial makes none: set eval.interval_steps in `fixed`"
        require(not self.metric.startswith("eval") or evaluated, "metric", self.metric, remedy)
        if self.search.name == "optuna":
            remedy = (
                "is for search.name = 'random' or for no scheduler that changes values: choose one of the two"
            )
            require(
                self.scheduler.name != "pbt", "search.name", "optuna", f"pbt searches by itself; {remedy}"
            )
            for name, kind in self.space.items():
                require("grid" not in kind, f"space.{name}", kind, "optuna takes no grid: make it a choice")
        if self.scheduler.name != "none":
            remedy = f"{self.scheduler.name} compares trials of one length: put it into `fixed`"
            require(
                "total_steps" not in self.space, "space.total_steps", self.space.get("total_steps"), remedy
            )
        if self.scheduler.name == "asha":
            grace = self.scheduler.grace_steps
            remedy = f"below total_steps = {shortest}, or no trial is ever stopped"
            require(grace is None or grace < shortest, "scheduler.grace_steps", grace, remedy)
        if self.scheduler.name == "pbt":
            require(self.trials >= 2, "samples", self.samples, "a population needs at least 2 members")
            self._check_mutations()
        cpus, gpus = self.resources.cpus, self.resources.gpus
        for config in configs:
            if config.runtime == "inline":
                continue
            remedy = "a trial through Ray says how many actors it has: set it in `fixed`, or runtime: inline"
            require(config.num_actors > 0, "num_actors", config.num_actors, remedy)
            need = laid_out(config, 1).num_cpus + config.num_learners
            remedy = (
                f"a trial with num_actors = {config.num_actors} takes {need}, one of them for its learner"
            )
            require(cpus >= need, "resources.cpus", cpus, remedy)
        remedy = "no trial may use it with device = 'cpu': set 0"
        require(gpus == 0 or any(c.device != "cpu" for c in configs), "resources.gpus", gpus, remedy)

    def _check_mutations(self) -> None:
        for name in self.mutated:
            if name not in self.space:
                raise ConfigError(
                    f"scheduler.mutate = {self.scheduler.mutate!r}: {name!r} is not in the space"
                )
            if name not in MAY_BE_TUNED:
                raise ConfigError(
                    f"space.{name} = {self.space[name]!r}: a member that goes on from another's checkpoint "
                    "cannot change it; leave it out, or out of scheduler.mutate. What can: "
                    f"{', '.join(sorted(MAY_BE_TUNED))}"
                )


def _check_values(name: str, values: object) -> None:
    remedy = f"needs one of {', '.join(KINDS)} and its values: {{uniform: [0.1, 0.9]}}, {{choice: [1, 2, 3]}}"
    require(
        isinstance(values, dict) and len(values) == 1 and next(iter(values)) in KINDS, name, values, remedy
    )
    assert isinstance(values, dict)
    ((kind, chosen),) = values.items()
    plain = isinstance(chosen, list) and all(
        v is None or isinstance(v, (bool, int, float, str)) for v in chosen
    )
    require(plain and len(chosen) >= 2, name, values, f"{kind} takes a list of at least two plain values")
    if kind not in RANGES:
        require(len({*map(repr, chosen)}) == len(chosen), name, values, "one of its values is there twice")
        return
    kinds = (int,) if kind == "int" else (int, float)
    good = len(chosen) == 2 and all(type(value) in kinds and math.isfinite(value) for value in chosen)
    remedy = f"{kind} takes [low, high], two {'whole ' if kind == 'int' else ''}numbers, the lower one first"
    require(good and chosen[0] < chosen[1], name, values, remedy)
    require(kind != "loguniform" or chosen[0] > 0, name, values, "loguniform needs a low end above 0")
