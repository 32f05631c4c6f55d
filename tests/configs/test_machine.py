"""Cores by affinity and cgroup quota, over file trees as Linux shows them, and in this process itself."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.machine import available_cores

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
