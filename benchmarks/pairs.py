"""Comparisons in pairs: A then B, then B then A, and so on, so that a machine that is slow for a while is
slow for both. What is told of the pairs is the median with its spread."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

PAIRS = 10
CONFIDENCE = 0.95
RESAMPLES = 2000
T = TypeVar("T")


def in_turns(arms: Sequence[T], rounds: int) -> Iterator[Sequence[T]]:
    """All arms once a round: forward, then backward, and so on."""
    for turn in range(rounds):
        yield arms[:: -1 if turn % 2 else 1]


def interval(values: Sequence[float]) -> list[float] | None:
    """Percentile bootstrap of the median, at CONFIDENCE; None of a single value. The same every time."""
    if len(values) < 2:
        return None
    drawn = np.random.default_rng(0).choice(np.asarray(values), (RESAMPLES, len(values)))
    outside = (1 - CONFIDENCE) / 2
    return [float(bound) for bound in np.quantile(np.median(drawn, axis=1), [outside, 1 - outside])]


def summary(values: Sequence[float]) -> dict[str, float]:
    """`median`, with `low` and `high` around it: of a single value itself."""
    median = float(statistics.median(values))
    low, high = interval(values) or (median, median)
    return {"median": median, "low": low, "high": high}


def told(values: Sequence[float], digits: int = 0) -> str:
    """The same for people."""
    found = summary(values)
    return f"{found['median']:,.{digits}f} [{found['low']:,.{digits}f}, {found['high']:,.{digits}f}]"
