"""What the processes of a run hold, sampled, and how that grows: least squares within lives.

A process that is killed and begun anew shows nothing about growth by being small again. So every process is
a life of its own, its first part is left out, and one slope is fitted to all lives of a role:

    slope = sum over lives of sum (t - mean t) (y - mean y)  /  sum over lives of sum (t - mean t)^2
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

Role = Literal["driver", "rank", "actor", "board", "raylet", "gcs", "other", "files"]

MIB = 2**20
NAMES: dict[str, Role] = {
    "ray::RolloutWorker": "actor",
    "ray::Rank": "rank",
    "ray::Board": "board",
    "raylet": "raylet",
    "gcs_server": "gcs",
}
"""By how the names of Ray's processes begin."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One process, or one folder, at one moment."""

    life: Hashable
    """Which it is: those of one life are compared with each other."""
    role: Role
    time: float
    """Seconds since any fixed moment."""
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Slope:
    """How one quantity of one role grows."""

    per_hour: float
    largest: float
    lives: int
    seconds: float
    """Of all lives together, but for their first parts."""


def role_of(process: psutil.Process, driver: int) -> Role:
    if process.pid == driver:
        return "driver"
    words = process.cmdline() or [process.name()]
    name = os.path.basename(words[0])
    for start, role in NAMES.items():
        if name.startswith(start):
            return role
    return "other"


def look(driver: int, life: Hashable, now: float) -> tuple[list[Sample], set[str]]:
    """All processes of a run, and the shared memory with a name that they use: none, if nothing is to be left
    where they are killed. Those that end meanwhile are left out."""
    found: list[Sample] = []
    named: set[str] = set()
    try:
        family = [psutil.Process(driver), *psutil.Process(driver).children(recursive=True)]
    except psutil.NoSuchProcess:
        return [], set()
    for process in family:
        try:
            with process.oneshot():
                role, memory = role_of(process, driver), process.memory_info()
                values: dict[str, float] = {
                    "rss_mib": memory.rss / MIB,
                    "private_mib": (memory.rss - memory.shared) / MIB,
                    "shm_mib": _shared_memory(process.pid) / MIB,
                    "descriptors": process.num_fds(),
                    "threads": process.num_threads(),
                }
                key = (life, process.pid, process.create_time())
                maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        except (psutil.Error, OSError):
            continue
        found.append(Sample(key, role, now, values))
        named |= {line.split()[-1] for line in maps if "/dev/shm/" in line and not line.endswith("(deleted)")}
    return found, named


def _shared_memory(pid: int) -> int:
    """Bytes of shared memory, without files, that a process has touched."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssShmem:"):
            return int(line.split()[1]) * 1024
    return 0


def disk(folder: Path, but: Iterable[str] = ()) -> float:
    """MiB of the files below a folder, but for those of these names. What goes meanwhile does not count."""
    total, left_out = 0, set(but)
    for place, _, files in os.walk(folder):
        for file in files:
            if file not in left_out:
                try:
                    total += os.lstat(os.path.join(place, file)).st_size
                except FileNotFoundError:
                    continue
    return total / MIB


def slopes(samples: Iterable[Sample], warm_s: float) -> dict[tuple[Role, str], Slope]:
    """Of every quantity of every role that lived for longer than `warm_s`, which of each life is left out."""
    lives: dict[tuple[Role, Hashable], list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.role, sample.life].append(sample)
    series: dict[tuple[Role, str], list[tuple[list[float], list[float]]]] = defaultdict(list)
    largest: dict[tuple[Role, str], float] = defaultdict(float)
    for (role, _), life in lives.items():
        rest = [sample for sample in life if sample.time - life[0].time >= warm_s]
        for name in life[0].values:
            largest[role, name] = max(largest[role, name], *(sample.values[name] for sample in life))
            if len(rest) >= 2:
                series[role, name].append(([s.time for s in rest], [s.values[name] for s in rest]))
    return {
        key: Slope(
            3600 * _slope(parts), largest[key], len(parts), sum(times[-1] - times[0] for times, _ in parts)
        )
        for key, parts in series.items()
    }


def _slope(parts: list[tuple[list[float], list[float]]]) -> float:
    above = below = 0.0
    for times, values in parts:
        t, y = sum(times) / len(times), sum(values) / len(values)
        above += sum((a - t) * (b - y) for a, b in zip(times, values, strict=True))
        below += sum((a - t) ** 2 for a in times)
    return above / below if below else 0.0


def over_limits(
    found: Mapping[tuple[Role, str], Slope], limits: Mapping[tuple[Role, str], float], least_s: float
) -> list[str]:
    """What grows by more than its limit an hour. Of what was seen for less than `least_s` seconds a slope
    says nothing."""
    return [
        f"{name} of {role} grows by {slope.per_hour:.1f} an hour, and {limits[role, name]:g} is the limit"
        for (role, name), slope in found.items()
        if (role, name) in limits and slope.seconds >= least_s and slope.per_hour > limits[role, name]
    ]
