"""Where an update's time goes."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Laps of one update in milliseconds: wall time on a CPU, event times of the stream on a GPU.

    On a GPU nothing is waited for until `metrics`, which the caller asks for after its own transfer.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._marks: list[tuple[str, float | torch.cuda.Event]] = [("", self._mark())]

    def _mark(self) -> float | torch.cuda.Event:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def lap(self, name: str) -> None:
        """Ends the lap that began at the last call (or at construction)."""
        self._marks.append((name, self._mark()))

    def metrics(self) -> dict[str, float]:
        """`perf/time_NAME_ms` of each lap."""
        laps: dict[str, float] = {}
        for (_, start), (name, end) in zip(self._marks[:-1], self._marks[1:], strict=True):
            if isinstance(start, float) and isinstance(end, float):
                laps[f"perf/time_{name}_ms"] = 1e3 * (end - start)
            elif isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
                end.synchronize()
                laps[f"perf/time_{name}_ms"] = start.elapsed_time(end)
        return laps
