"""From the metrics of an experiment's runs to numbers: per arm, with 95 % intervals over the seeds.

A run's final value is the mean over all games that ended in windows of its last tenth: the policy as it acts
while it trains, sampled, with a learning rate that is falling to 0. Where an experiment reads what an
evaluation found, it is that of the evaluations there, by weights at rest. Intervals: of a mean, the
percentile bootstrap over seeds; of a share of solved runs, Clopper-Pearson. Both by scipy.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import stats

from benchmarks.machine import header
from experiments.catalogue import Experiment
from learner.records.metrics_file import read_rows

CONFIDENCE = 0.95
RESAMPLES = 9999
FEWEST = 5
"""Games of a window that can show a task solved."""


class Finished(Protocol):
    """What is asked of a run; `experiments.runner.Run` is one."""

    @property
    def arm(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def total_steps(self) -> int: ...
    @property
    def folder(self) -> Path: ...
    def seconds(self) -> float | None: ...


class Window(NamedTuple):
    step: int
    """Agent steps at its end."""
    value: float
    """The metric of the games that ended in it, or of an evaluation's."""
    episodes: int


@dataclass(frozen=True, slots=True)
class Curve:
    """The windows of one finished run in which games ended."""

    arm: str
    seed: int
    total_steps: int
    seconds: float
    windows: list[Window]
    beside: float | None = None
    """Mean of the number that `Experiment.beside` names over the rows that have it."""

    @property
    def short(self) -> bool:
        """Whether no game ended in the last tenth, so that it has no final value."""
        return not self._last()

    def _last(self) -> list[Window]:
        return [w for w in self.windows if 10 * w.step > 9 * self.total_steps]

    @property
    def final(self) -> float:
        """Over all games of the windows that end in the last tenth of the run.

        Raises ValueError for a run that is `short`.
        """
        last = self._last()
        if not last:
            raise ValueError(f"{self.arm}, seed {self.seed}: no game ended in the last tenth")
        return sum(w.value * w.episodes for w in last) / sum(w.episodes for w in last)

    def steps_to_solved(self, experiment: Experiment) -> int | None:
        """End of the first window that is good enough; None if there is none. A handful of games is luck, and
        those that end first are the short ones."""
        good = (w for w in self.windows if w.episodes >= FEWEST and experiment.is_solved(w.value))
        return next((w.step for w in good), None)


def read_curves(runs: Sequence[Finished], experiment: Experiment) -> list[Curve]:
    curves, source = [], experiment.reads.partition("/")[0]
    for run in runs:
        seconds = run.seconds()
        assert seconds is not None, "only finished runs are read"
        windows, beside = [], []
        for row in read_rows(run.folder / "metrics.jsonl"):
            if experiment.reads in row:
                value, count = experiment.of_return(row[experiment.reads]), f"{source}/episodes"
                windows.append(Window(row["global_step"], value, round(row[count])))
            if experiment.beside is not None and experiment.beside in row:
                beside.append(row[experiment.beside])
        other = statistics.fmean(beside) if beside else None
        curves.append(Curve(run.arm, run.seed, run.total_steps, seconds, windows, other))
    return curves


def write_results(path: Path, curves: Sequence[Curve], experiment: Experiment) -> None:
    """One window of one run a line."""
    with path.open("w", encoding="utf-8") as file:
        for curve in curves:
            for window in curve.windows:
                row = {"arm": curve.arm, "seed": curve.seed, "step": window.step, "metric": experiment.metric}
                file.write(json.dumps({**row, "value": window.value, "episodes": window.episodes}) + "\n")


def mean_interval(values: Sequence[float]) -> list[float] | None:
    """Of the mean over seeds; None where one seed alone cannot tell."""
    if len(values) < 2:
        return None
    result = stats.bootstrap(
        (np.asarray(values),),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",  # defined also where all seeds agree
        rng=np.random.default_rng(0),
    )
    return [float(bound) for bound in result.confidence_interval]


def share_interval(successes: int, trials: int) -> list[float]:
    """Clopper-Pearson."""
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="exact")
    return [float(interval.low), float(interval.high)]


def summarise(experiment: Experiment, curves: Sequence[Curve], *, jobs: int) -> dict[str, Any]:
    """Plain JSON; an arm without a finished run is left out, and runs that are `short` are named."""
    arms = {}
    for name, arm in experiment.arms.items():
        mine = [curve for curve in curves if curve.arm == name and not curve.short]
        if not mine:
            continue
        final = {str(curve.seed): curve.final for curve in mine}
        solved = sum(experiment.is_solved(value) for value in final.values())
        arms[name] = {
            "preset": arm.preset,
            "overrides": experiment.overrides(name),
            **({"series": arm.series, "x": arm.x} if experiment.plot == "sweep" else {}),
            "total_steps": mine[0].total_steps,
            "runs": len(mine),
            "final": final,
            "mean": statistics.fmean(final.values()),
            "mean_interval": mean_interval(list(final.values())),
            "solved": solved,
            "solved_interval": share_interval(solved, len(mine)),
            "steps_to_solved": {str(curve.seed): curve.steps_to_solved(experiment) for curve in mine},
            "seconds": {str(curve.seed): curve.seconds for curve in mine},
            "beside": {str(curve.seed): curve.beside for curve in mine},
        }
    return {
        "experiment": experiment.name,
        "description": experiment.description,
        "metric": experiment.metric,
        "chance": experiment.chance,
        "best": experiment.best,
        "solved_at": experiment.solved,
        "jobs": jobs,
        "machine": header(),
        "arms": arms,
        "short": [{"arm": curve.arm, "seed": curve.seed} for curve in curves if curve.short],
    }


def markdown(experiment: Experiment, result: dict[str, Any]) -> str:
    """The table: an arm a row."""
    metric, solved, digits = experiment.metric, experiment.solved, experiment.digits
    least = "at most" if experiment.lower_is_better else "at least"
    read = "of sampled actions over all games of the last tenth of training"
    if experiment.reads.startswith("eval/"):
        read = f"({experiment.reads}) of the evaluations in the last tenth of training, by weights at rest"
    lines = [
        f"# {experiment.name}\n",
        f"{experiment.description}\n",
        f"| arm | steps | seeds | {metric}, last tenth [95 %] | lowest, highest | solved [95 %] "
        f"| steps to {metric} {solved:g} | s a run |"
        + (f" {experiment.beside} |" if experiment.beside else ""),
        "|---" * (9 if experiment.beside else 8) + "|",
    ]
    for name, arm in result["arms"].items():
        final, reached = arm["final"], [s for s in arm["steps_to_solved"].values() if s is not None]
        cells = [
            name,
            f"{arm['total_steps']:,}",
            ", ".join(final),
            f"{arm['mean']:.{digits}f}{_bounds(arm['mean_interval'], digits)}",
            f"{min(final.values()):.{digits}f}, {max(final.values()):.{digits}f}",
            f"{arm['solved']} of {arm['runs']}{_bounds(arm['solved_interval'], 2)}",
            f"{statistics.median_low(reached):,} ({len(reached)} of {arm['runs']})" if reached else "never",
            f"{statistics.median(arm['seconds'].values()):.0f}",
        ]
        if experiment.beside:
            others = [value for value in arm["beside"].values() if value is not None]
            cells.append(
                f"{statistics.fmean(others):.4g}{_bounds(mean_interval(others), 4)}" if others else "none"
            )
        lines.append("| " + " | ".join(cells) + " |")
    failed: dict[tuple[str, int], list[str]] = {}
    for run in result["failed"]:
        failed.setdefault((run["arm"], run["exit_code"]), []).append(str(run["seed"]))
    for (arm, code), seeds in failed.items():
        which = f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
        lines.append(f"\n**Failed: {arm}, {which}, exit code {code}.**")
    for run in result["short"]:
        lines.append(
            f"\n**Too short: {run['arm']}, seed {run['seed']}. No game ended in its last tenth: more "
            "--total-steps, and another --out.**"
        )
    machine = result["machine"]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "numpy"))
    lines.append(
        f"\n{metric} {read}; {experiment.levels}. Mean over seeds with a percentile-bootstrap interval; "
        f"solved: {least} {solved:g} there, with a Clopper-Pearson interval. Steps: the end of the first of "
        f"a run's windows of {FEWEST} games or more to reach {solved:g}, (lower) median of seeds that did. "
        f"{machine['date']}, {machine['cpu']}, "
        f"{machine['cores']} cores, {result['jobs']} runs at a time with one thread each, load "
        f"{machine['load_average'][0]:g}, Python {machine['python']}, {versions}.\n"
    )
    return "\n".join(lines)


def _bounds(interval: list[float] | None, digits: int) -> str:
    return "" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
