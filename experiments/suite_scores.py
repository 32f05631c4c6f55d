"""A suite's scores from the results of `launch.py eval --json`: aggregates over levels, intervals over seeds.

    python -m experiments.suite_scores RESULT.json ... [--partial] [--json FILE]

The results of one training seed are one run. Median and IQM are those of Agarwal et al. 2021
(arXiv 2108.13264), and so are the intervals: a bootstrap stratified by level, which draws anew, for each
level by itself, as many runs as there are. Their package rliable gives the same figures; it is not used
because what it needs today (arch 7.2 with pandas 3.1) does not import, and scipy does it in one call.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from configs.schema import ConfigError
from envs.scores import AGGREGATES, Aggregate, score_matrix, score_table
from experiments.summary import CONFIDENCE, RESAMPLES

OF_A_LEVEL = {"env_id", "num_actions"}
"""Entries of the protocol that differ between the levels of one suite."""


def aggregate_runs(
    suite: str, runs: Sequence[Mapping[str, float]], *, partial: bool = False
) -> dict[str, dict[str, Any]]:
    """By aggregate: its value over all runs, and a 95 % interval, which is None for a single run.

    `runs`: normalised scores in percent by level, of every run the same levels: all of the suite, or,
    if `partial`, some. Raises ValueError for a level that is missing or unknown.
    """
    scores = score_matrix(suite, runs, partial=partial)
    return {
        name: {"value": float(of(scores)), "interval": interval(scores, of)}
        for name, of in AGGREGATES[suite].items()
    }


def interval(scores: NDArray[np.float64], of: Aggregate) -> list[float] | None:
    """Of `of` over runs and levels, at 95 %; None for a single run. `scores`: [runs, levels]."""
    if len(scores) < 2:
        return None

    def statistic(*levels: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        assert axis == -1
        return of(np.stack(levels, axis=-1))  # each [..., runs]

    result = stats.bootstrap(
        tuple(scores.T),
        statistic,
        vectorized=True,
        axis=-1,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return [float(bound) for bound in result.confidence_interval]


def read_runs(paths: Sequence[Path]) -> tuple[str, dict[int, dict[str, float]]]:
    """The suite, and by training seed the scores of all levels.

    Raises ConfigError for results that do not belong together: of several suites, of different
    protocols, or two of the same level and seed.
    """
    runs: dict[int, dict[str, float]] = {}
    first: dict[str, Any] = {}
    for path in paths:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not result.get("scores"):
            raise ConfigError(f"{path}: {result['protocol']['env_id']} has no normalised score")
        context = {"suite of scores": result["score_suite"], "greedy": result["greedy"]}
        context |= {name: value for name, value in result["protocol"].items() if name not in OF_A_LEVEL}
        first = first or context
        for name, value in context.items():
            if first.get(name) != value:
                raise ConfigError(
                    f"{path}: {name} is {value}, in {paths[0]} it is {first.get(name)}; "
                    "one figure needs one protocol"
                )
        run = runs.setdefault(result["training_seed"], {})
        for level, score in result["scores"].items():
            if level in run:
                raise ConfigError(f"{path}: a second result of {level}, seed {result['training_seed']}")
            run[level] = score
    return first["suite of scores"], runs


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="suite_scores", description="A suite's scores over levels and seeds."
    )
    parser.add_argument("results", type=Path, nargs="+", help="files of `launch.py eval --json`")
    parser.add_argument(
        "--partial", action="store_true", help="not all levels: an aggregate over those given"
    )
    parser.add_argument("--json", type=Path, help="also write the aggregates to this file")
    options = parser.parse_args(arguments)
    try:
        suite, runs = read_runs(options.results)
        aggregates = aggregate_runs(suite, list(runs.values()), partial=options.partial)
    except ValueError as error:
        print(f"suite_scores: {error}", file=sys.stderr)
        return 2
    levels, seeds = sorted(next(iter(runs.values()))), sorted(runs)
    print(f"{suite}, {len(levels)} of {len(score_table(suite))} levels, training seeds {seeds}:")
    for name, found in aggregates.items():
        interval = found["interval"]
        bounds = "" if interval is None else f" [{interval[0]:.1f}, {interval[1]:.1f}]"
        print(f"  {name}: {found['value']:.1f} %{bounds}")
    if options.json is not None:
        written = {"suite": suite, "levels": levels, "training_seeds": seeds, "aggregates": aggregates}
        options.json.write_text(json.dumps(written, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
