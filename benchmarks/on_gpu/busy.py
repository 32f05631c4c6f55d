"""How busy a GPU was: the union of its kernels' and copies' intervals over the time looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """Length that the intervals (begin, end) cover together: what lies in several counts once."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered


def device_intervals(events: Iterable[Any]) -> list[tuple[float, float]]:
    """Of what ran on a device, in microseconds, from a profiler's `events()`."""
    on_device = (event for event in events if event.device_type.name != "CPU")
    return [(event.time_range.start, event.time_range.end) for event in on_device]


def busy_share(call: Callable[[], object], calls: int, trace: Path | None = None) -> dict[str, Any]:
    """Share of the time, from the first to the last thing that ran on the GPU, in which any did; and the ten
    kernels that took longest, ms a call. `trace`: where the profile goes, for a trace viewer."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    intervals = device_intervals(profiler.events() or ())
    if not intervals:
        raise RuntimeError("the profiler saw nothing on the GPU")
    span = max(end for _, end in intervals) - min(begin for begin, _ in intervals)
    rows = [row for row in profiler.key_averages() if row.device_type.name != "CPU"]
    rows.sort(key=lambda row: -row.self_device_time_total)
    longest = {row.key[:80]: round(row.self_device_time_total / calls / 1e3, 4) for row in rows[:10]}
    return {"busy": union(intervals) / span, "ms_per_call": span / calls / 1e3, "longest_ms": longest}
