"""What the GPU script's parts compute that needs no GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from benchmarks.on_gpu.busy import kernels, union


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


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_the_union_of_intervals_counts_every_moment_once(drawn: list[tuple[int, int]]) -> None:
    moments = {moment for start, length in drawn for moment in range(start, start + length)}
    assert union((start, start + length) for start, length in drawn) == len(moments)


def test_only_kernels_that_ran_on_a_device_count():
    events = [
        SimpleNamespace(
            name=name,
            device_type=SimpleNamespace(name=place),
            time_range=SimpleNamespace(start=start, end=start + 1.0),
        )
        for name, place, start in (
            ("cudaLaunchKernel", "CPU", 0.0),
            ("advance_trace_kernel", "CUDA", 5.0),
            ("Memcpy HtoD (Pinned -> Device)", "CUDA", 7.0),
            ("Memset (Device)", "CUDA", 8.0),
        )
    ]
    assert kernels(events) == [(5.0, 6.0)]


def test_what_a_profiler_tells_has_these_fields():
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        torch.ones(3).sum()
    events = profiler.events()
    assert events and kernels(events) == [] and isinstance(events[0].name, str)
    assert profiler.key_averages()[0].device_type.name == "CPU"
