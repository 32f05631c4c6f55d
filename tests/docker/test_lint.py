"""The Dockerfiles and every shell script of the tree pass their linters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FOLDERS = (".ci", "benchmarks", "cluster", "docker")


def shell_scripts(root: Path) -> list[Path]:
    """Files of these folders whose first line names a shell, whatever their names."""
    files = (path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    firsts = ((path, path.read_bytes()[:80].partition(b"\n")[0]) for path in files)
    return sorted(path for path, first in firsts if first.startswith(b"#!") and first.endswith(b"sh"))


def lint(tool: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / tool, path], capture_output=True, text=True)


@pytest.mark.parametrize("name", ["Dockerfile", "dmlab.Dockerfile"])
def test_dockerfile(name: str) -> None:
    result = lint("hadolint", ROOT / "docker" / name)
    assert result.returncode == 0, result.stdout + result.stderr


def test_hadolint_finds_a_fault(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN cd /tmp && sudo ls\n")
    result = lint("hadolint", tmp_path / "Dockerfile")
    assert result.returncode != 0
    assert "DL3007" in result.stdout and "DL3004" in result.stdout


@pytest.mark.parametrize("path", shell_scripts(ROOT), ids=lambda path: str(path.relative_to(ROOT)))
def test_shell_script(path: Path) -> None:
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    result = lint("shellcheck", path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_shell_scripts_are_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in shell_scripts(ROOT)}
    assert {".ci/run", "cluster/train.sbatch", "docker/up.sh"} <= names


def test_shellcheck_finds_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("#!/usr/bin/env bash\nrm -rf $1/x\n")
    result = lint("shellcheck", tmp_path / "a.sh")
    assert result.returncode != 0
    assert "SC2086" in result.stdout
