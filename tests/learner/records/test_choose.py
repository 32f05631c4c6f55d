"""A checkpoint is found by what users call it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from learner.records.checkpoint import CheckpointError, save
from learner.records.choose import BEST, load_chosen, load_from


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Of a run that has kept steps 10 and 20, and 5 as its best."""
    folder = tmp_path / "run" / "checkpoints"
    for step in (10, 20):
        save(folder, step, {"x": torch.tensor(float(step))}, {}, keep_last=3)
    save(folder / BEST, 5, {"x": torch.tensor(5.0)}, {}, keep_last=1)
    return folder


@pytest.mark.parametrize(
    ("which", "step"),
    [("newest", 20), ("best", 5), ("10", 10), ("000000000010", 10), ("step_000000000010", 10), ("5", 5)],
)
def test_by_name_and_by_step(checkpoints: Path, which: str, step: int) -> None:
    loaded = load_chosen(checkpoints, which)
    assert (loaded.step, loaded.tensors["x"].item()) == (step, float(step))


def test_by_path(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir, one = checkpoints.parent, checkpoints / "step_000000000010"
    other = checkpoints.parents[1] / "other"
    for path, step in ((run_dir, 20), (checkpoints, 20), (one, 10), (checkpoints / BEST, 5)):
        assert load_from(path).step == step == load_chosen(other, str(path)).step
    monkeypatch.setenv("HOME", str(checkpoints.parents[1]))
    assert load_chosen(other, "~/run/checkpoints/step_000000000010").step == 10


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("30", "holds no checkpoint of step 30; there are: 5, 10, 20"),
        ("nonsense", "no checkpoint nonsense: there is no such folder"),
    ],
)
def test_one_that_is_not_there_is_said_to_be_missing(checkpoints: Path, which: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        load_chosen(checkpoints, which)


def test_a_run_that_does_not_evaluate_itself_has_no_best_one(tmp_path: Path) -> None:
    save(tmp_path, 10, {}, {}, keep_last=1)
    with pytest.raises(CheckpointError, match=r"best.*--eval\.interval-steps"):
        load_chosen(tmp_path, "best")


def test_the_best_one_is_no_checkpoint_of_the_course_of_the_run(checkpoints: Path) -> None:
    """Neither found as the newest nor removed as too old."""
    save(checkpoints, 30, {}, {}, keep_last=1)
    assert load_chosen(checkpoints).step == 30 and load_chosen(checkpoints, "best").step == 5
