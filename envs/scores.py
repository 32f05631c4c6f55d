"""Normalised scores of the suites, in percent, and what a suite makes of those of all its levels.

A level's score is linear in its mean return: 0 where a random agent stands, 100 where a human does
(ProcGen: at the bounds of Cobbe et al. 2019). `score_tables/` holds both ends with their sources.

| suite | levels | aggregates |
|---|---|---|
| atari57 | 57 | `median`, `mean`, `iqm` |
| dmlab30 | 30 | `mean_capped`: every level's score is cut off at 100 first (Espeholt et al. 2018); `mean` |
| procgen-easy, procgen-hard | 16 | `mean`, `iqm` |

`iqm` is the interquartile mean (Agarwal et al. 2021): of the middle half of all scores.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig

SCORE_SUITES = ("atari57", "dmlab30", "procgen-easy", "procgen-hard")
_TABLES = Path(__file__).parent / "score_tables"
_TEST_LEVELS = {
    f"{name}_train": f"{name}_test"
    for name in ("rooms_collect_good_objects", "rooms_exploit_deferred_effects")
}
_BY_PREFIX = {"ALE": ("atari57",), "dmlab": ("dmlab30",), "procgen": ("procgen-easy", "procgen-hard")}
"""Of an env id"""
_CAP = 100.0

Aggregate = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""[..., runs, levels] scores in percent -> [...]"""


class ScoreRange(NamedTuple):
    low: float
    """The mean return that scores 0 %."""
    high: float
    """The mean return that scores 100 %."""
    source: str


@cache
def score_table(suite: str) -> dict[str, ScoreRange]:
    """Every level of `suite` by name. Raises ValueError for an unknown suite."""
    if suite not in SCORE_SUITES:
        raise ValueError(f"no score table for the suite {suite!r}; there is {', '.join(SCORE_SUITES)}")
    with (_TABLES / f"{suite}.csv").open(newline="", encoding="utf-8") as file:
        return {
            row["level"]: ScoreRange(float(row["low"]), float(row["high"]), row["source"])
            for row in csv.DictReader(file)
        }


def normalise(suite: str, mean_returns: Mapping[str, float]) -> dict[str, float]:
    """Scores in percent, not capped, of some or all levels of `suite`.

    `mean_returns`: by level, the mean of the raw returns of whole episodes. DMLab-30's two training
    variants have no human score of their own: they are scored, and named in the result, as the test
    variants. Raises ValueError for a level that the suite lacks, one given in both variants, and a
    return that is not finite.
    """
    table, scores = score_table(suite), {}
    for given, value in mean_returns.items():
        level = _TEST_LEVELS.get(given, given) if suite == "dmlab30" else given
        _check_known(suite, (level,))
        if level in scores:
            raise ValueError(f"{suite}: {level} is given in its training and its test variant; keep one")
        if not math.isfinite(value):
            raise ValueError(f"{suite}: the mean return of {given} is {value}")
        low, high, _ = table[level]
        scores[level] = (value - low) / (high - low) * 100.0
    return scores


def aggregate(suite: str, scores: Mapping[str, float], *, partial: bool = False) -> dict[str, float]:
    """What `suite` reports of one run, in percent; `scores` as `normalise` returns them.

    All levels are needed, since the suite's figure is over all of them. `partial` allows for some
    missing ones, except in DMLab-30: then say with the result over which levels it is. Raises ValueError
    for a level that is missing or that the suite lacks.
    """
    matrix = score_matrix(suite, [scores], partial=partial)
    return {name: float(of(matrix)) for name, of in AGGREGATES[suite].items()}


def score_matrix(
    suite: str, runs: Sequence[Mapping[str, float]], *, partial: bool = False
) -> NDArray[np.float64]:
    """[runs, levels] in the order of the table; raises as `aggregate`, and for runs of different levels."""
    table = score_table(suite)
    if partial and suite == "dmlab30":
        raise ValueError("dmlab30: its score is over all 30 levels, so there is no partial one")
    expected = (
        [level for level in table if any(level in scores for scores in runs)] if partial else list(table)
    )
    if not runs or not expected:
        raise ValueError(f"{suite}: there are no scores to aggregate")
    for scores in runs:
        _check_known(suite, scores)
        missing = [level for level in expected if level not in scores]
        if missing:
            remedy = "" if partial or suite == "dmlab30" else ", or ask for a partial aggregate"
            raise ValueError(
                f"{suite}: {len(missing)} of {len(expected)} levels are missing in a run "
                f"({', '.join(missing)}); evaluate them too{remedy}"
            )
    return np.array([[scores[level] for level in expected] for scores in runs], np.float64)


def _check_known(suite: str, levels: Iterable[str]) -> None:
    table = score_table(suite)
    for level in levels:
        if level not in table:
            near = difflib.get_close_matches(level, table, n=1)
            raise ValueError(
                f"{suite} has no level {level!r}; "
                + (f"did you mean {near[0]}?" if near else f"it has {', '.join(table)}")
            )


def _mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return scores.mean((-2, -1))


def _median(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over levels, of the means over runs."""
    return np.median(scores.mean(-2), axis=-1)


def iqm(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of all runs and levels together: a quarter is cut off at either end, rounded down."""
    ordered = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(-1)


def _mean_capped(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """A run's score of a level is capped, never an episode's."""
    return _mean(np.minimum(scores, _CAP))


AGGREGATES: dict[str, dict[str, Aggregate]] = {
    "atari57": {"median": _median, "mean": _mean, "iqm": iqm},
    "dmlab30": {"mean_capped": _mean_capped, "mean": _mean},
    "procgen-easy": {"mean": _mean, "iqm": iqm},
    "procgen-hard": {"mean": _mean, "iqm": iqm},
}


def level_of(env_id: str) -> str | None:
    """The name by which the tables know an environment: `ALE/MsPacman-v5` is `ms_pacman`.

    None for an environment of no table, like `ALE/Tetris-v5` or `CartPole-v1`.
    """
    prefix, _, name = env_id.partition("/")
    if prefix == "ALE":
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("-v5")).lower()
    elif prefix == "dmlab":
        name = name.removeprefix("contributed/dmlab30/")
    known = any(_TEST_LEVELS.get(name, name) in score_table(suite) for suite in _BY_PREFIX.get(prefix, ()))
    return name if known else None


def score_levels(
    suite: str | None, returns: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Of mean raw returns by env id: the normalised scores of the levels that `suite` has, and what it makes
    of them; the latter is empty unless all levels of the suite are there. A return that is not finite has no
    score."""
    if suite is None:
        return {}, {}
    named = {
        level: value
        for env_id, value in returns.items()
        if (level := level_of(env_id)) is not None and math.isfinite(value)
    }
    scores = normalise(suite, named)
    return scores, aggregate(suite, scores) if scores.keys() == score_table(suite).keys() else {}


def suite_for(config: EnvConfig) -> str | None:
    """The score table for levels of `config`'s env; None where there is none (memory mode)."""
    prefix = config.id.partition("/")[0]
    suites = _BY_PREFIX.get(prefix, ())
    if prefix == "procgen":
        suites = tuple(suite for suite in suites if suite == f"procgen-{config.procgen.distribution_mode}")
    return suites[0] if suites else None
