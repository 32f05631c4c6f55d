"""What holds for every file of the tree: its length, and what it may not say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.test_patience import impatience

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 300
UNDER = (
    *("actors", "benchmarks", "configs", "docker", "envs", "experiments", "kernels", "learner", "sweeps"),
    "training",
)


def long_files(root: Path) -> list[str]:
    """Python files over MAX_LINES, tests excepted: a file that grows past it is two files."""
    paths = [*root.glob("*.py"), *(path for folder in UNDER for path in (root / folder).rglob("*.py"))]
    counts = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    return [f"{path.relative_to(root)}: {n} lines" for path, n in counts.items() if n > MAX_LINES]


HOST = re.compile(
    r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.(org|com)|npmjs\.(org|com)|nodejs\.org/dist"
    r"|(artifactory|nexus|jfrog)[\w.-]*\.\w+|://[^\s\"')]*/simple\b|--(extra-)?index-ur[l]|--find-link[s]",
    re.IGNORECASE,
)
# Absolute paths of somebody's machine. An image has a file system of its own, so docker/ may name more.
MACHINE_PATH = re.compile(r"(?<![\w.\-/})])/(work|home|Users|mnt|srv|root|opt)/\w")
IMAGE_PATH = re.compile(r"(?<![\w.\-/})])/(work|home|Users|mnt|srv)/\w")


def private_places(root: Path, files: list[str]) -> list[str]:
    """Lines of `files` that name a machine's path or a package registry, as `file:line: what`."""
    faults = []
    for file in files:
        path = IMAGE_PATH if file.startswith("docker/") else MACHINE_PATH
        text = (root / file).read_bytes().decode("utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            faults += [f"{file}:{number}: {m[0]}" for p in (path, HOST) for m in p.finditer(line)]
    return faults


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_files_stay_short(tmp_path: Path) -> None:
    assert long_files(ROOT) == []
    plant(tmp_path, {"envs/short.py": "x = 1\n" * MAX_LINES, "envs/long.py": "x = 1\n" * (MAX_LINES + 1)})
    assert long_files(tmp_path) == ["envs/long.py: 301 lines"]


def test_every_wait_of_a_test_is_patient_and_for_a_condition() -> None:
    assert impatience(ROOT / "tests") == []


def test_no_file_names_a_machine_or_a_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a git clone, so which files are the project's is not known")
    files = [file for file in listed.stdout.split("\0") if file and (ROOT / file).is_file()]
    assert "pyproject.toml" in files
    assert private_places(ROOT, files) == []


@pytest.mark.parametrize("where", ["see /{}/somebody/run", "DIR=/{}/x", '"/{}/somebody"'])
@pytest.mark.parametrize("folder", ["home", "work", "opt"])
def test_a_machine_path_is_found(tmp_path: Path, where: str, folder: str) -> None:
    plant(tmp_path, {"a.md": "first\n" + where.format(folder)})
    (fault,) = private_places(tmp_path, ["a.md"])
    assert fault.startswith("a.md:2: ")


def test_a_registry_is_found_and_ordinary_text_is_not(tmp_path: Path) -> None:
    index = "--index" + "-url"
    plant(tmp_path, {"a.sh": f"pip install {index} x\nhttps://files.python" + "hosted.org/x\n"})
    assert len(private_places(tmp_path, ["a.sh"])) == 2
    plant(tmp_path, {"b.md": "runs/home/x, a/work/b, https://example.org/opt/x and/or /tmp\n"})
    assert private_places(tmp_path, ["b.md"]) == []
