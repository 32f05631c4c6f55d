"""Laps: of one name they add up, and on a GPU they are of the learner's own device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from learner.records import timing
from learner.records.timing import Stopwatch


def test_laps_of_one_name_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 1.5, 3.0, 3.25])
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    watch = Stopwatch(torch.device("cpu"))
    for name in ("rtrl", "forward", "rtrl"):
        watch.lap(name)
    assert watch.metrics() == {"perf/time_rtrl_ms": 750.0, "perf/time_forward_ms": 1500.0}
    assert watch.milliseconds() == 2250.0


def test_events_are_recorded_on_the_stream_of_the_named_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The current device may be another one; two GPUs are not here, so the calls are looked at."""
    recorded: list[Any] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: Any = None) -> None:
            recorded.append(stream)

        def synchronize(self) -> None: ...

        def elapsed_time(self, end: Event) -> float:
            return 2.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    watch = Stopwatch(torch.device("cuda:1"))
    watch.lap("forward")
    assert watch.milliseconds() == 2.0
    assert recorded == ["stream of cuda:1"] * 2


@pytest.mark.gpu
def test_the_copy_to_a_gpu_is_measured() -> None:
    device = torch.device("cuda")
    data = torch.empty(2**26, pin_memory=True)
    watch = Stopwatch(device)
    data.to(device, non_blocking=True)
    watch.lap("transfer")
    assert watch.milliseconds() > 1.0  # 256 MiB: at most 64 GB/s
