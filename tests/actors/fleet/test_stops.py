"""Who hears of a stop that all processes are asked for."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.fleet.cluster import NEEDED, ray_session
from actors.fleet.stops import STOPS, deaf, hear
from configs.schema import RayConfig

pytestmark = pytest.mark.ray


def blocked(pid: int) -> set[int]:
    """Of STOPS, as the kernel tells of the process's first thread."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = (int(line.split()[1], 16) for line in status if line.startswith("SigBlk:"))
    return {int(number) for number in STOPS if mask >> (number - 1) & 1}


def masks() -> tuple[int, set[int]]:
    return psutil.Process().pid, {int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ()) if n in STOPS}


def test_rays_own_processes_do_not_hear_it_and_its_workers_do() -> None:
    with ray_session(RayConfig(object_store_mib=100), num_cpus=1):
        import ray

        family = psutil.Process().children(recursive=True)
        needed = [process for process in family if process.name() in NEEDED]
        assert len(needed) == len(NEEDED)
        for process in needed:
            assert blocked(process.pid) == {signal.SIGTERM, signal.SIGHUP}, process
        task: Any = ray.remote(masks)
        pid, its = ray.get(task.remote())
        assert pid != psutil.Process().pid and its == set()
        assert blocked(psutil.Process().pid) == set()


def test_a_stop_that_comes_while_others_are_begun_is_heard_after_it() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with deaf():
            signal.raise_signal(signal.SIGTERM)
            assert not heard
            hear()
            assert heard == [signal.SIGTERM]
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
            signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)
