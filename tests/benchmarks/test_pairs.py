"""Comparisons in pairs: small, and what all benchmarks say rests on them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks import pairs


def test_arms_take_turns_forward_and_back() -> None:
    assert [list(order) for order in pairs.in_turns("AB", 4)] == [*[["A", "B"], ["B", "A"]] * 2]
    assert [list(order) for order in pairs.in_turns([1, 2, 3], 2)] == [[1, 2, 3], [3, 2, 1]]


def test_repeats_that_differ_are_reported_as_such() -> None:
    assert pairs.interval([0.75, 0.78, 0.90]) == [0.75, 0.90]
    assert pairs.interval([0.5]) is None
    assert pairs.summary([0.5]) == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert pairs.told([1000.0, 1000.0, 4000.0]) == "1,000 [1,000, 4,000]"


def test_the_interval_is_the_percentile_bootstrap_of_the_median() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=41)
    theirs = stats.bootstrap(
        (values,), np.median, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    ours = pairs.interval(values.tolist())
    assert ours == pytest.approx(list(theirs), rel=0.03)
    assert ours == pairs.interval(values.tolist()), "the same every time"
