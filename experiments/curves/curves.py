"""`launch.py plot RUN_DIR ...`: figures of finished or running runs, from what they leave on disk.

    OUT/METRIC.png, .svg       the learning curve: `--metric`, `charts/episodic_return` unless told
    OUT/throughput.png, .svg   charts/SPS
    OUT/lag.png, .svg          lag/policy_version_mean and _max
    OUT/traces.png, .svg       rtrl/*; from the newest checkpoints the traces and the decay |a| of each unit
    OUT/curves.json            every number that the curves show

An arm is all runs of one setting: of a preset, and of whatever else differs among the runs of that preset
(but not the seed, nor where and how often things are written). Over an arm's seeds the line is the
interquartile mean and the band its 95 % bootstrap interval, both as in `experiments/suite_scores.py`; of
fewer than four seeds the interquartile mean is the mean. One seed has no band, and the figure says so.
Between two rows of a run the curve is a straight line, and it ends where the first of the arm's seeds ends.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.paths import path_argument
from configs.schema import Config, ConfigError
from learner.records.metrics import FAMILIES, METRICS
from learner.records.run_dir import RunDir

POINTS = 50
"""Of a curve over several seeds."""
NO_ARM = {
    *("preset", "seed", "run_dir", "wandb", "checkpoint", "eval", "ray", "time_limit_s"),
    *("log_interval_s", "log_interval_steps", "diagnostics_interval"),
}
"""Fields, or branches, of the config that make no arm of their own."""
THROUGHPUT = ("charts/SPS",)
LAG = ("lag/policy_version_mean", "lag/policy_version_max")
TRACES = ("rtrl/trace_norm", "rtrl/boundary_grad_frac", "rtrl/staleness_cos")


@dataclass(frozen=True, slots=True)
class Run:
    """One run directory, read."""

    path: Path
    config: Config
    rows: list[dict[str, float]]

    def series(self, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Agent steps, and the values there; both empty where the run has none."""
        pairs = [(row["global_step"], row[metric]) for row in self.rows if metric in row]
        steps, values = zip(*pairs, strict=True) if pairs else ((), ())
        return np.asarray(steps, np.float64), np.asarray(values, np.float64)


class Point(NamedTuple):
    step: float
    value: float
    """Interquartile mean over seeds."""
    interval: list[float] | None
    """At 95 %; None for one seed."""


@dataclass(frozen=True, slots=True)
class ArmCurve:
    seeds: list[int]
    points: list[Point]


def read_run(path: str) -> Run:
    """Raises RunDirError for what is no run directory, ConfigError for one without usable metrics."""
    run_dir = RunDir.open(path, exclusive=False)
    if not run_dir.metrics_path.is_file():
        raise ConfigError(f"{path} has no metrics.jsonl: nothing was logged there, so nothing can be drawn")
    rows = []
    for number, line in enumerate(run_dir.metrics_path.read_text(encoding="utf-8").splitlines(True), 1):
        if not line.endswith("\n"):
            break  # the row that a running process is writing
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ConfigError(f"{run_dir.metrics_path}, line {number} is damaged: {error}") from error
    return Run(run_dir.path, RunDir.saved_config(path), rows)


def _flat(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Dotted names of the leaves, as on the command line."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
    return found


def group(runs: Sequence[Run], by: Sequence[str] = ()) -> dict[str, list[Run]]:
    """The runs of each arm, by the arm's name, in the order given.

    `by`: fields of the config, `preset` or `rtrl.boundary`, whose values name the arm; else the preset and
    what differs among its runs. Raises ConfigError where an arm would hold runs of different settings, or the
    same seed twice.
    """
    settings = {run.path: _flat(dataclasses.asdict(run.config)) for run in runs}
    for name in by:
        if name not in settings[runs[0].path]:
            near = get_close_matches(name, settings[runs[0].path], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--by {name}: the config has no such field{hint}")
    differing = {
        preset: _differing([settings[run.path] for run in runs if run.config.preset == preset])
        for preset in {run.config.preset for run in runs}
    }
    arms: dict[str, list[Run]] = {}
    for run in runs:
        named = by or ["preset", *differing[run.config.preset]]
        values = {name: settings[run.path][name] for name in named}
        words = [
            str(v) if name == "preset" else f"{name.rpartition('.')[2]} {v}" for name, v in values.items()
        ]
        arms.setdefault(", ".join(words), []).append(run)
    for name, mine in arms.items():
        if mixed := _differing([settings[run.path] for run in mine]):
            raise ConfigError(
                f"the runs of the arm {name!r} differ in {', '.join(mixed)}, and a mean over them says "
                f"nothing: --by {' '.join([*by, *mixed])}, or leave --by out"
            )
        first: dict[int, Run] = {}
        for run in mine:
            if (other := first.setdefault(run.config.seed, run)) is not run:
                raise ConfigError(
                    f"{run.path} and {other.path} are both seed {run.config.seed} of {name!r}: give one"
                )
    return arms


def _differing(settings: Sequence[dict[str, object]]) -> list[str]:
    return [
        name
        for name in settings[0]
        if name.partition(".")[0] not in NO_ARM and any(s[name] != settings[0][name] for s in settings)
    ]


def curves(arms: dict[str, list[Run]], metric: str) -> dict[str, ArmCurve]:
    """Of each arm that has the metric. Raises ConfigError where only some of its seeds have it."""
    found = {}
    for name, runs in arms.items():
        series = [run.series(metric) for run in runs]
        lacking = [run.path for run, (steps, _) in zip(runs, series, strict=True) if not len(steps)]
        if len(lacking) == len(runs):
            continue
        if lacking:
            raise ConfigError(f"{lacking[0]} has no {metric} yet, other seeds of {name!r} have: leave it out")
        found[name] = ArmCurve([run.config.seed for run in runs], _points(name, series))
    return found


def _points(name: str, series: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> list[Point]:
    from envs.scores import iqm
    from experiments.suite_scores import interval  # scipy and, below, matplotlib belong to the extra `plot`

    steps = _grid(name, [steps for steps, _ in series])
    by_seed = np.stack([np.interp(steps, *one) for one in series])
    return [
        Point(float(step), float(iqm(values[:, None])), interval(values[:, None], iqm))
        for step, values in zip(steps, by_seed.T, strict=True)
    ]


def _grid(name: str, steps: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Where the curve of several seeds is computed: at their rows if these are few and the same, else evenly
    over the steps that all seeds have."""
    if len(steps) == 1 or (len(steps[0]) <= POINTS and all(np.array_equal(s, steps[0]) for s in steps)):
        return steps[0]
    first, last = max(s[0] for s in steps), min(s[-1] for s in steps)
    if last < first:
        raise ConfigError(f"the seeds of {name!r} have no steps in common: one ended before another began")
    return np.linspace(first, last, min(POINTS, *(len(s) for s in steps)))


def check_metric(metric: str, runs: Sequence[Run]) -> None:
    """Raises ConfigError unless some run logged `metric`."""
    if metric not in METRICS and not metric.startswith(tuple(FAMILIES)):
        near = get_close_matches(metric, METRICS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; docs/metrics.md lists all of them"
        raise ConfigError(f"--metric {metric}: there is no such metric{hint}")
    if not any(metric in row for run in runs for row in run.rows):
        logged = sorted({name for run in runs for row in run.rows for name in row} & METRICS.keys())
        raise ConfigError(
            f"--metric {metric}: no row of these runs has it; they have {', '.join(logged) or 'no rows yet'}"
        )


def to_json(arms: dict[str, ArmCurve]) -> dict[str, Any]:
    return {
        name: {"seeds": arm.seeds, "points": [point._asdict() for point in arm.points]}
        for name, arm in arms.items()
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch.py plot", description="Figures of one run, of several seeds, or of several arms."
    )
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", type=path_argument)
    parser.add_argument(
        "--out", type=path_argument, help="default: RUN_DIR/plots of a single run, runs/plots of several"
    )
    parser.add_argument("--metric", default="charts/episodic_return", help="of the learning curve")
    parser.add_argument(
        "--by", nargs="+", default=[], metavar="FIELD", help="config fields that tell the arms apart"
    )
    parser.add_argument(
        "--decay-steps",
        type=int,
        default=300,
        help="env steps replayed for the spectrum of |a|; 0: without it",
    )
    options = parser.parse_args(arguments)
    if options.decay_steps < 0:
        raise ConfigError(
            f"--decay-steps {options.decay_steps}: cannot be negative; 0 leaves the spectrum out"
        )
    return options


def main(arguments: list[str]) -> int:
    """Raises ConfigError, RunDirError, EnvError or CheckpointError for input that cannot be drawn."""
    options = parse(arguments)
    try:
        from experiments.curves import plot as curves_plot
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"plot needs the package {error.name!r}, which is not installed: "
            "pip install -c constraints.txt matplotlib scipy"
        ) from error
    runs = [read_run(path) for path in options.run_dirs]
    check_metric(options.metric, runs)
    arms = group(runs, options.by)
    out = options.out or (runs[0].path / "plots" if len(runs) == 1 else Path("runs/plots"))
    found = {metric: curves(arms, metric) for metric in (options.metric, *THROUGHPUT, *LAG, *TRACES)}
    drawn = curves_plot.draw_all(out, found, arms, metric=options.metric, decay_steps=options.decay_steps)
    (out / "curves.json").write_text(
        json.dumps({metric: to_json(arm) for metric, arm in found.items()}, indent=2) + "\n"
    )
    print("\n".join([*drawn, f"numbers: {out / 'curves.json'}"]))
    return 0
