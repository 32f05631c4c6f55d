"""pyproject.toml, constraints.txt and the Makefile agree with each other and with what is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.]+)")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(text: str) -> dict[str, Version]:
    """The versions that `text` pins. ValueError for a line that is neither a comment nor `name==version`."""
    found: dict[str, Version] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = PIN.fullmatch(line)
        if match is None:
            raise ValueError(f"{line!r} is not name==version")
        if canonicalize_name(match[1]) in found:
            raise ValueError(f"{match[1]} is pinned twice")
        found[canonicalize_name(match[1])] = Version(match[2])
    return found


def unpinned(declared: list[str], pinned: dict[str, Version]) -> list[str]:
    """Requirements of `declared` that have no pin, or one that they do not allow."""
    faults = []
    for requirement in map(Requirement, declared):
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            faults.append(f"{requirement}: pinned to {version}")
    return faults


def test_every_requirement_is_pinned_to_a_version_that_it_allows() -> None:
    metadata = project()["project"]
    extras = metadata["optional-dependencies"]
    suites = {"atari", "procgen", "popgym", "minigrid", "mujoco", "vizdoom"}
    assert set(extras) == {"ray", "tune", *suites, "wandb", "docs", "plot", "test"}
    declared = [*metadata["dependencies"], *(line for lines in extras.values() for line in lines)]
    assert unpinned(declared, pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))) == []


def test_a_missing_or_contradicting_pin_is_found() -> None:
    faults = unpinned(["torch>=2.11", "Ale_Py>=0.12", "numpy>=2"], pins("torch==2.13.0\nale-py==0.11.0"))
    assert [fault.partition(":")[0] for fault in faults] == ["Ale_Py>=0.12", "numpy>=2"]


@pytest.mark.parametrize(
    "line",
    [
        "torch @ https://example.org/torch.whl",
        "torch==2.13.0+cpu",  # a local build, which an index does not have
        "torch>=2.13",
        "-e .",
        "torch @ file:///tmp/torch.whl",
        "",
    ],
)
def test_constraints_are_plain_pins(line: str) -> None:
    with pytest.raises(ValueError, match="is not name==version"):
        pins(f"numpy==2.4.6\n{line}\n")


def test_both_pythons_are_supported_and_no_others() -> None:
    requires = Requirement(f"python {project()['project']['requires-python']}").specifier
    versions = ["3.10.9", "3.11.0", "3.11.7", "3.12.3", "3.13.0"]
    assert [v for v in versions if v in requires] == ["3.11.0", "3.11.7", "3.12.3"]


def test_nothing_of_ours_is_installed() -> None:
    setuptools = project()["tool"]["setuptools"]
    assert setuptools == {"py-modules": []}


def test_the_environment_is_consistent() -> None:
    """`pip check`: every installed package finds its requirements in a version that it accepts."""
    result = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_pins_are_what_is_installed() -> None:
    """What runs here is what constraints.txt promises; `+cpu` and the like name a build of a version."""
    result = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    pinned = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    installed = pins("\n".join(line.partition("+")[0] for line in result.stdout.splitlines()))
    assert {name: v for name, v in installed.items() if name in pinned and pinned[name] != v} == {}


@pytest.mark.parametrize(
    "target",
    ["help", "train", "demo", "test", "lint", "bench", "system-deps", "test-docker", "test-slurm", "clean"],
)
def test_make_knows(target: str) -> None:
    result = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_make_clean_spares_the_runs() -> None:
    result = subprocess.run(["make", "--dry-run", "clean"], cwd=ROOT, capture_output=True, text=True)
    removals = [line for line in result.stdout.splitlines() if "rm -rf" in line]
    assert removals
    assert all("runs" not in line.replace("-not -path './runs/*'", "") for line in removals)


def test_make_names_what_python_it_needs(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"))
    result = subprocess.run(
        ["make", "PYTHON=no-such-python false", "test"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert "none of 'no-such-python false' is a Python 3.11 or 3.12 with venv" in result.stderr
    assert not (tmp_path / ".venv").exists()
