"""The command for a GPU machine: each part runs although another failed, and the end says which did."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

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
    assert run(monkeypatch, tmp_path, parts, "--limit-s", "6") == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    ends = [summary[part]["exit"] for part in gpu.PARTS]
    assert ends == [3, 0, "ended after 6 s"]
    assert (tmp_path / "tests.txt").read_text() == "seen\n"
    assert "tests, learner_step failed" in capsys.readouterr().out


def test_parts_can_be_chosen(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, tmp_path, {"kernels": ["-c", ""]}, "--only", "kernels") == 0
    assert set(json.loads((tmp_path / "summary.json").read_text())) == {"machine", "quick", "kernels"}
    assert "nothing failed" in capsys.readouterr().out


@pytest.mark.parametrize("quick", [False, True])
def test_the_tests_named_are_there_and_need_no_hypothesis(quick):
    files = [word for word in gpu.command("tests", Path("out"), quick) if word.endswith(".py")]
    assert "tests/learner/test_compile.py" in files
    for file in files:
        assert "hypothesis" not in (gpu.ROOT / file).read_text(encoding="utf-8")
