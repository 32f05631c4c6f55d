"""What the GPU script's parts compute that needs no GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.on_gpu.busy import device_intervals, union


@pytest.mark.parametrize(
    ("intervals", "covered"),
    [
        ([], 0.0),
        ([(1.0, 3.0)], 2.0),
        ([(5.0, 6.0), (1.0, 3.0)], 3.0),  # in any order, with a gap
        ([(1.0, 4.0), (2.0, 3.0)], 3.0),  # one inside another
        ([(1.0, 3.0), (2.0, 5.0), (5.0, 6.0)], 5.0),  # overlapping, touching
        ([(0.0, 10.0), (1.0, 2.0), (3.0, 4.0), (9.0, 12.0)], 12.0),  # after a long one that holds others
        ([(1.0, 2.0), (1.0, 2.0)], 1.0),  # two streams at once
    ],
)
def test_what_lies_in_several_intervals_counts_once(intervals, covered):
    assert union(intervals) == covered


def test_only_what_ran_on_a_device_counts():
    events = [
        SimpleNamespace(
            device_type=SimpleNamespace(name=name), time_range=SimpleNamespace(start=start, end=start + 1.0)
        )
        for name, start in (("CPU", 0.0), ("CUDA", 5.0))
    ]
    assert device_intervals(events) == [(5.0, 6.0)]


def test_what_a_profiler_tells_has_these_fields():
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        torch.ones(3).sum()
    events = profiler.events()
    assert events and device_intervals(events) == []
    assert profiler.key_averages()[0].device_type.name == "CPU"
