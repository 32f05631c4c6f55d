"""The table and the figure, from folders that are written here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sweeps.lives import TRIALS, Life, note
from sweeps.parts import SchedulerConfig
from sweeps.report import report
from sweeps.space import Space
from tests.sweeps.test_space import GOOD, changed

METRIC = GOOD["metric"]


def trial(out: Path, name: str, *lives: tuple[Life, list[tuple[int, float]]]) -> None:
    folder = out / TRIALS / name
    folder.mkdir(parents=True)
    (folder / "lives.jsonl").write_text("".join(json.dumps(asdict(life)) + "\n" for life, _ in lives))
    for life, points in lives:
        (folder / str(life.life)).mkdir()
        rows = [{"global_step": step, METRIC: value} for step, value in points] + [{"global_step": 10**9}]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / str(life.life) / "metrics.jsonl").write_text(text)


def values(learning_rate: float) -> dict[str, Any]:
    return {"learning_rate": learning_rate, "entropy_cost": 0.01}


def space(scheduler: Any, mode: str = "max") -> Space:
    return Space(**changed(mode=mode, scheduler=SchedulerConfig(name=scheduler)))


def written(space: Space, out: Path) -> list[list[str]]:
    text = report(space, out)
    assert (out / "summary.md").read_text() == text
    assert (out / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "sweep.svg").exists()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


@pytest.mark.parametrize(("mode", "order"), [("max", ["b", "a", "c"]), ("min", ["a", "b", "c"])])
def test_the_best_stands_first_and_who_never_got_so_far_last(
    mode: str, order: list[str], tmp_path: Path
) -> None:
    trial(tmp_path, "a", (Life(1, 0, None, values(0.001)), [(5000, 0.9), (10_000, 0.25)]))
    trial(tmp_path, "b", (Life(1, 0, None, values(0.002)), [(5000, 0.1), (100_000, 0.5)]))
    trial(tmp_path, "c", (Life(1, 0, None, values(0.003)), []))
    for name, how in (("a", "finished"), ("b", "finished"), ("c", "failed")):
        note(tmp_path, name, how)
    rows = written(space("asha", mode), tmp_path)
    assert [row[0] for row in rows] == order
    assert {row[0]: row[1:4] for row in rows} == {
        "a": ["stopped", "10,000", "0.25"],
        "b": ["finished", "100,000", "0.5"],
        "c": ["failed", "0", "nan"],
    }


def test_whose_weights_a_member_took_and_what_it_made_of_them(tmp_path: Path) -> None:
    trial(tmp_path, "a", (Life(1, 0, None, values(0.001)), [(5000, 0.5), (10_000, 0.6)]))
    first = (Life(1, 0, None, values(0.002)), [(5000, 0.1)])
    trial(tmp_path, "b", first, (Life(2, 10_000, "a", values(0.0012)), [(15_000, 0.7)]))
    rows = written(space("pbt"), tmp_path)
    assert rows == [
        ["b", "unfinished", "15,000", "0.7", "0.0012", "0.01", "a at 10,000"],
        ["a", "unfinished", "10,000", "0.6", "0.001", "0.01", "-"],
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [len(one["lives"]) for one in summary["trials"]] == [2, 1]


def test_nothing_is_drawn_of_trials_that_have_told_nothing(tmp_path: Path) -> None:
    trial(tmp_path, "a", (Life(1, 0, None, values(0.001)), []))
    report(space("none"), tmp_path)
    assert (tmp_path / "summary.md").exists() and not (tmp_path / "sweep.png").exists()
