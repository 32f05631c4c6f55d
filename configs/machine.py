"""How many cores and how much memory this process may use: what every default that depends on them is taken
from.

`os.cpu_count()` counts the machine's. A batch scheduler or `taskset` narrows a process by its CPU affinity, a
container by a quota or a limit of its control group (cgroup); all are obeyed here.
"""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_cores(system: Path = Path("/")) -> int:
    """The CPUs of this process's affinity, or fewer where a cgroup quota allows fewer; at least 1.

    A quota of a part of a core counts as a whole one: 1.5 cores keep two threads busier than one.

    `system`: where `proc/self/cgroup` and `sys/fs/cgroup` are looked for.
    """
    cores = len(os.sched_getaffinity(0))
    quotas = (_quota(group) for group in _groups(system, "cpu"))
    return max(1, min([cores, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def available_memory(system: Path = Path("/")) -> int:
    """Bytes of the machine's memory, or fewer where a cgroup says so. What others use is not taken off."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_memory_limit(group) for group in _groups(system, "memory"))
    return min([total, *(limit for limit in limits if limit is not None)])


def _groups(system: Path, controller: str) -> list[Path]:
    """Folders of this process's group and of every group above it: the least of their limits holds.

    In a container the hierarchy is often mounted from its own group on, while /proc/self/cgroup names the
    path from the host's root: then only the mount's root exists, and that is the container's group.
    """
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:  # no cgroups in this kernel
        return []
    found: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2; "unified" where both versions are mounted
            mounts = (system / "sys/fs/cgroup", system / "sys/fs/cgroup/unified")
        elif controller in controllers.split(","):
            mounts = (system / "sys/fs/cgroup" / controllers, system / "sys/fs/cgroup" / controller)
        else:
            continue
        for mount in dict.fromkeys(mounts):
            group = mount / path.lstrip("/")
            for folder in (group, *group.parents):
                if not folder.is_relative_to(mount):
                    break
                found.append(folder)
    return found


def _quota(group: Path) -> float | None:
    """Cores that one cgroup allows, by either version's files; None where it sets no limit."""
    unified, quota_file, period_file = (
        group / name for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    if unified.exists():
        quota, period = unified.read_text(encoding="utf-8").split()
    elif quota_file.exists():
        quota, period = (file.read_text(encoding="utf-8").strip() for file in (quota_file, period_file))
    else:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def _memory_limit(group: Path) -> int | None:
    """Bytes that one cgroup allows, by either version's file; None where it sets no limit."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (group / name).exists():
            text = (group / name).read_text(encoding="utf-8").strip()
            return None if text == "max" else int(text)
    return None
