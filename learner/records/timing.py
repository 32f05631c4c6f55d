"""Where an update's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Laps of one update in milliseconds: wall time on a CPU, event times of the device's stream on a GPU.

    On a GPU nothing is waited for until `metrics` or `milliseconds`, which the caller asks for after its own
    transfer. Laps of one name add up.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[str, float | torch.cuda.Event]] = [("", self._mark())]

    def _mark(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        # Of the named device: the current one may be another.
        event.record(torch.cuda.current_stream(self._device))
        return event

    def lap(self, name: str) -> None:
        """Ends the lap that began at the last call (or at construction)."""
        self._marks.append((name, self._mark()))

    def wait(self) -> None:
        """Until the last lap is over."""
        end = self._marks[-1][1]
        if isinstance(end, torch.cuda.Event):
            end.synchronize()

    def milliseconds(self) -> float:
        """Of all laps."""
        return sum(self._laps().values())

    def metrics(self) -> dict[str, float]:
        """`perf/time_NAME_ms` of each lap."""
        return {f"perf/time_{name}_ms": value for name, value in self._laps().items()}

    def _laps(self) -> dict[str, float]:
        laps: dict[str, float] = {}
        for (_, start), (name, end) in zip(self._marks[:-1], self._marks[1:], strict=True):
            if isinstance(start, float) and isinstance(end, float):
                laps[name] = laps.get(name, 0.0) + 1e3 * (end - start)
            elif isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
                end.synchronize()
                laps[name] = laps.get(name, 0.0) + start.elapsed_time(end)
        return laps


class Timesheet:
    """Wall time by part of what goes on for long."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """So far."""
        self._told: dict[str, float] = {}

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.add(part, 1e3 * (time.perf_counter() - start))

    def add(self, part: str, milliseconds: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + 1e-3 * milliseconds

    def metrics(self, updates: int) -> dict[str, float]:
        """`perf/time_NAME_ms` of each part since the last call, by update."""
        before, self._told = self._told, dict(self.seconds)
        return {
            f"perf/time_{part}_ms": 1e3 * (spent - before.get(part, 0.0)) / updates
            for part, spent in self._told.items()
        }
