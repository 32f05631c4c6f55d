"""The command for a GPU machine: each part runs although another failed, and the end says which did."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


def run(monkeypatch: pytest.MonkeyPatch, out: Path, parts: dict[str, list[str]], *options: str) -> int:
    """Runs `gpu` with other command lines for its parts; the exit code."""
    monkeypatch.setattr(gpu, "command", lambda part, out, quick: parts[part])
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(out), *options])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_part_that_fails_stops_no_other_and_is_named(tmp_path, monkeypatch, capsys):
    parts = {
        "tests": ["-c", "print('seen'); raise SystemExit(3)"],
        "kernels": ["-c", "import benchmarks; print('found')"],
        "learner_step": ["-c", "import time; time.sleep(60)"],
    }
    assert run(monkeypatch, tmp_path, parts, "--limit-s", "6", "--only", *parts) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    ends = [summary[part]["exit"] for part in parts]
    assert ends == [3, 0, "ended after 6 s"]
    assert (tmp_path / "tests.txt").read_text() == "seen\n"
    assert "tests, learner_step failed" in capsys.readouterr().out


def test_parts_can_be_chosen(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, tmp_path, {"kernels": ["-c", ""]}, "--only", "kernels") == 0
    assert set(json.loads((tmp_path / "summary.json").read_text())) == {"machine", "quick", "kernels"}
    assert "nothing failed; not run: nothing" in capsys.readouterr().out


def test_a_part_without_time_left_is_dropped_and_named(tmp_path, monkeypatch, capsys):
    options = "--budget-s", "10", "--only", "kernels"
    assert run(monkeypatch, tmp_path, {"kernels": ["-c", "raise SystemExit(3)"]}, *options) == 0
    assert json.loads((tmp_path / "summary.json").read_text())["kernels"]["exit"].startswith("dropped: ")
    assert "not run: kernels (dropped: " in capsys.readouterr().out


def test_without_atari_its_part_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    assert run(monkeypatch, tmp_path, {}, "--only", "atari") == 0
    assert "ale-py is not installed, and no --wheels were given" in capsys.readouterr().out


def test_a_folder_without_wheels_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"no \*\.whl lies there; `make gpu-wheels` brings them"):
        gpu.install(tmp_path, tmp_path)


def test_a_wheel_is_installed_below_out_and_seen_by_a_part_alone(tmp_path):
    """A wheel made by hand: nothing is downloaded."""
    info = "beside_the_tree-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "beside_the_tree-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("beside_the_tree.py", "print('found')")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: beside-the-tree\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    site = gpu.install(tmp_path, tmp_path / "out")
    command = [sys.executable, "-c", "import beside_the_tree"]
    seen = subprocess.run(command, env=gpu.environment(site), capture_output=True, text=True)
    assert seen.stdout == "found\n", seen.stderr
    assert subprocess.run(command, env=gpu.environment(None), capture_output=True).returncode != 0


@pytest.mark.parametrize("quick", [False, True])
def test_the_tests_named_are_there_and_need_no_hypothesis(quick):
    files = [word for word in gpu.command("tests", Path("out"), quick) if word.endswith(".py")]
    assert "tests/learner/test_on_gpu.py" in files
    for file in files:
        assert "hypothesis" not in (gpu.ROOT / file).read_text(encoding="utf-8")


def test_quick_as_it_is_called_reports_the_part_that_fails_and_runs_the_next(tmp_path):
    """The command itself, its parts as processes. The first cannot write its result."""
    (tmp_path / "visits.json").mkdir()
    parts = ["visits", "training", "options", "kernels"]
    command = [sys.executable, "-m", "benchmarks.gpu", "--quick", "--out", str(tmp_path), "--budget-s", "800"]
    limit = ["--limit-s", "200", "--only", *parts]
    done = subprocess.run([*command, *limit], cwd=gpu.ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [summary[part]["exit"] for part in parts] == [1, 0, 0, 0]
    assert "IsADirectoryError" in (tmp_path / "visits.txt").read_text()
    assert (
        "--- no GPU: this was a CPU; visits failed; not run: nothing" in done.stdout
        or torch.cuda.is_available()
    )
    left = {path.name.removesuffix(".json") for path in tmp_path.glob("*.json") if path.is_file()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert left >= {"summary", "training", f"options-{device}", f"kernels-{device}"}
