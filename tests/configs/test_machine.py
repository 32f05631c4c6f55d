"""Cores by affinity and cgroup quota, memory by cgroup limit: file trees as Linux shows them, and here."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.machine import available_cores, available_memory

ROOT = Path(__file__).resolve().parents[2]
MINE = len(os.sched_getaffinity(0))


def plant(system: Path, own: str, files: dict[str, str]) -> Path:
    for name, text in ({"proc/self/cgroup": own} | files).items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(text)
    return system


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)))


V1 = "12:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n0::/docker/ab\n"


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 16),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "100000 50000\n"}, 2),
        ("0::/a/b\n", {"other/cpu.max": "100000 100000\n"}, 16),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 4),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 16),
        (V1, {"cpu/docker/ab/cpu.cfs_quota_us": "50000\n", "cpu/docker/ab/cpu.cfs_period_us": "10000\n"}, 5),
        (V1, {"memory/cpu.max": "100000 100000\n"}, 16),
        ("0::/a\n", {"unified/a/cpu.max": "700000 100000\n"}, 7),
    ],
)
def test_a_quota_narrows_the_cores(tmp_path: Path, own: str, files: dict[str, str], cores: int) -> None:
    system = plant(tmp_path, own, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert available_cores(system) == cores


def test_without_cgroups_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == MINE


GIB = 2**30
UNLIMITED = "9223372036854771712\n"
"""What version 1 says where there is no limit."""


@pytest.mark.parametrize(
    ("own", "files", "gib"),
    [
        ("0::/\n", {}, 64),
        ("0::/\n", {"memory.max": "max\n"}, 64),
        ("0::/\n", {"memory.max": f"{8 * GIB}\n"}, 8),
        ("0::/\n", {"memory.max": f"{100 * GIB}\n"}, 64),
        ("0::/a/b\n", {"a/memory.max": f"{6 * GIB}\n", "a/b/memory.max": "max\n"}, 6),
        ("0::/a/b\n", {"a/memory.max": f"{6 * GIB}\n", "a/b/memory.max": f"{2 * GIB}\n"}, 2),
        ("0::/a/b\n", {"other/memory.max": f"{GIB}\n"}, 64),
        (V1, {"memory/docker/ab/memory.limit_in_bytes": f"{4 * GIB}\n"}, 4),
        (V1, {"memory/memory.limit_in_bytes": UNLIMITED}, 64),
        (V1, {"cpu/memory.limit_in_bytes": f"{GIB}\n"}, 64),
        ("0::/a\n", {"unified/a/memory.max": f"{3 * GIB}\n"}, 3),
    ],
)
def test_a_limit_narrows_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], gib: int
) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIB // 4096}.get)
    system = plant(tmp_path, own, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert available_memory(system) == gib * GIB


def test_without_cgroups_the_machines_memory_counts(tmp_path: Path) -> None:
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    kib = int(told["MemTotal"].split()[0])
    assert abs(available_memory(tmp_path) - kib * 1024) <= 2**20
    assert 0 < available_memory() <= kib * 1024 + 2**20


def test_a_process_bound_to_one_core_has_one() -> None:
    one = min(os.sched_getaffinity(0))
    script = f"""import os; os.sched_setaffinity(0, {{{one}}})
from configs.machine import available_cores
print(available_cores())"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def test_nothing_else_counts_cores() -> None:
    """A default taken from the machine's cores starts 64 processes in a container that has two."""
    faults = []
    folders = ("actors", "benchmarks", "configs", "docker", "envs", "experiments", "kernels", "learner")
    for path in [*ROOT.glob("*.py"), *(p for folder in folders for p in (ROOT / folder).rglob("*.py"))]:
        if path != ROOT / "configs/machine.py":
            names = {
                node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
            }
            if names & {"cpu_count", "sched_getaffinity", "process_cpu_count"}:
                faults.append(str(path.relative_to(ROOT)))
    assert faults == []
