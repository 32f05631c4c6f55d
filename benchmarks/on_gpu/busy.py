"""How busy a GPU is: the union of its kernels' intervals, over the time that was looked at.

The sum of kernels' times counts twice where streams overlap; the driver's "utilisation" counts a whole sample
in which one kernel ran. Copies are no kernels: what they hold up is a gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

COPIES = ("Memcpy", "Memset")
"""The profiler's names of what is no kernel."""


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """Length that the intervals (begin, end) cover together: what lies in several counts once."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered


def kernels(events: Iterable[Any]) -> list[tuple[float, float]]:
    """Begin and end, in microseconds, of what ran on a device, copies aside, of a profiler's `events()`."""
    return [
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type.name != "CPU" and not event.name.startswith(COPIES)
    ]


class KernelClock:
    """Looks at the GPU work of this process, between `start` and `stop`."""

    def start(self) -> None:
        torch.cuda.synchronize()
        self.profile = profile(activities=[ProfilerActivity.CUDA])
        self.profile.start()
        self._began = time.perf_counter()

    def stop(self) -> float:
        """The share of the time in which a kernel ran. Waits for those under way."""
        torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._began
        self.profile.stop()
        return 1e-6 * union(kernels(self.profile.events() or ())) / self.seconds


def busy_share(call: Callable[[], object], calls: int, trace: Path | None = None) -> dict[str, Any]:
    """Of so many calls, and the ten kernels that took longest, ms a call. `trace`: where the profile goes,
    for a trace viewer."""
    clock = KernelClock()
    clock.start()
    for _ in range(calls):
        call()
    busy = clock.stop()
    if not busy:
        raise RuntimeError("the profiler saw no kernel on the GPU")
    if trace is not None:
        clock.profile.export_chrome_trace(str(trace))
    rows = [row for row in clock.profile.key_averages() if row.device_type.name != "CPU"]
    rows.sort(key=lambda row: -row.self_device_time_total)
    longest = {row.key[:80]: round(row.self_device_time_total / calls / 1e3, 4) for row in rows[:10]}
    return {"busy": busy, "ms_per_call": 1e3 * clock.seconds / calls, "longest_ms": longest}
