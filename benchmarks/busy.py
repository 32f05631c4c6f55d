"""How much of the time a GPU is busy: the union of its kernels' intervals, over the time that was looked at.

The sum of kernels' times counts twice where streams overlap; the driver's "utilisation" counts a whole sample
in which one kernel ran.
"""

from __future__ import annotations

import time
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.on_gpu.busy import union

COPIES = ("Memcpy", "Memset")
"""The profiler's names of what is no kernel."""


class KernelClock:
    """Looks at the GPU work of this process, between `start` and `stop`."""

    def start(self) -> None:
        self._profile = profile(activities=[ProfilerActivity.CUDA])
        self._profile.start()
        self._began = time.perf_counter()

    def stop(self) -> float:
        """The share of the time in which a kernel ran. Waits for those under way."""
        import torch

        torch.cuda.synchronize()
        seconds = time.perf_counter() - self._began
        self._profile.stop()
        return 1e-9 * union(kernels(self._profile)) / seconds


def kernels(profiled: Any) -> list[tuple[float, float]]:
    """Start and end of each kernel, in ns."""
    return [
        (event.start_ns(), event.start_ns() + event.duration_ns())
        for event in profiled.profiler.kineto_results.events()
        if event.device_type().name == "CUDA" and not event.name().startswith(COPIES)
    ]
