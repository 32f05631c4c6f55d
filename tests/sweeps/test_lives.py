"""The folder of a trial: where it stands, its next life from another's checkpoint, copies beside a writer."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.presets import preset
from configs.schema import Config
from learner.records import checkpoint
from learner.records.checkpoint import CheckpointError
from learner.records.run_dir import RunDirError
from sweeps.lives import Life, Report, TrialFolder, ended, note

METRIC = "charts/episodic_return"


def save(run_dir: Path, step: int, keep_last: int = 100) -> Path:
    tensors = {"policy/weight": torch.full((300,), float(step))}
    return checkpoint.save(run_dir / "checkpoints", step, tensors, {}, keep_last=keep_last)


def log(run_dir: Path, *rows: dict[str, Any], half: str = "") -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + half)


def test_a_trial_stands_at_its_newest_checkpoint_of_which_there_is_a_row(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path)
    run_dir = folder.run_dir(1)
    assert folder.report(1, METRIC) is None
    log(run_dir, half='{"global_step": 10')
    assert folder.report(1, METRIC) is None
    save(run_dir, 0)
    rows = [
        {"global_step": 10},
        {"global_step": 20, METRIC: 0.5},
        {"global_step": 30},
        {"global_step": 40, METRIC: 0.7},
    ]
    log(run_dir, rows[0])
    save(run_dir, 10)
    assert folder.report(1, METRIC) is None, "no value yet"
    log(run_dir, *rows[:3])
    assert folder.report(1, METRIC) is None, "a value that is newer than what was saved is not of it"
    save(run_dir, 30)
    assert folder.report(1, METRIC) == Report(30, 0.5)
    assert folder.report(1, METRIC, after=30) is None
    save(run_dir, 40)
    log(run_dir, *rows[:3], half=json.dumps(rows[3]))
    assert folder.report(1, METRIC) == Report(30, 0.5), "the last row may be half written"
    log(run_dir, *rows)
    assert folder.report(1, METRIC, after=30) == Report(40, 0.7)


def test_the_first_life_is_begun_once(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trial")
    assert folder.begin({"seed": 1}) == folder.begin({"seed": 2}) == Life(1, 0, None, {"seed": 1})
    assert folder.lives() == [Life(1, 0, None, {"seed": 1})]


def test_the_next_life_has_the_other_ones_checkpoint_and_its_own_values(tmp_path: Path) -> None:
    found = save(tmp_path / "other" / "1", 80)
    folder = TrialFolder(tmp_path / "trial")
    folder.begin({"learning_rate": 0.1})
    life = folder.begin_from(found, "other", preset("memory_rtrl"), {"learning_rate": 0.2})
    assert life == Life(2, 80, "other", {"learning_rate": 0.2})
    assert folder.lives()[1] == life
    mine = checkpoint.load_latest(folder.run_dir(2) / "checkpoints")
    assert mine.step == 80
    assert torch.equal(mine.tensors["policy/weight"], torch.full((300,), 80.0))
    assert Config.from_json((folder.run_dir(2) / "config.json").read_text()) == preset("memory_rtrl")


def test_a_life_that_was_killed_is_the_same_one_again(tmp_path: Path) -> None:
    """Tune gives the other one's checkpoint again, where it has none of this one's yet."""
    found, folder = save(tmp_path / "other" / "1", 80), TrialFolder(tmp_path / "trial")
    folder.begin({"learning_rate": 0.1})
    life = folder.begin_from(found, "other", preset("memory_rtrl"), {"learning_rate": 0.2})
    save(folder.run_dir(2), 160)
    assert folder.begin_from(found, "other", preset("memory_rtrl"), {"learning_rate": 0.2}) == life
    assert sorted(checkpoint.steps(folder.run_dir(2) / "checkpoints")) == [80, 160]
    assert folder.begin_from(found, "other", preset("memory_rtrl"), {"learning_rate": 0.3}).life == 3
    assert len(folder.lives()) == 3


def test_a_damaged_checkpoint_begins_no_life(tmp_path: Path) -> None:
    found = save(tmp_path / "other" / "1", 80)
    (found / "tensors.safetensors").write_bytes(b"x")
    folder = TrialFolder(tmp_path / "trial")
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        folder.begin_from(found, "other", preset("memory_rtrl"), {})
    assert folder.lives() == []


def test_a_life_takes_nobody_elses_folder(tmp_path: Path) -> None:
    found = save(tmp_path / "other" / "1", 80)
    folder = TrialFolder(tmp_path / "trial")
    log(folder.run_dir(1), {"global_step": 1})
    with pytest.raises(RunDirError, match="already holds a run"):
        folder.begin_from(found, "other", preset("memory_rtrl"), {})


def test_a_copy_beside_a_writer_is_whole(tmp_path: Path) -> None:
    folder, over = TrialFolder(tmp_path), threading.Event()
    save(folder.run_dir(1), 1)

    def write() -> None:
        step = 1
        while not over.is_set():
            step += 1
            save(folder.run_dir(1), step, keep_last=1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        steps = []
        while len(set(steps)) < 15:
            copied = folder.copy_newest(1, tmp_path / "copies")
            steps.append(checkpoint.load(copied).step)
            shutil.rmtree(copied)
    finally:
        over.set()
        writer.join()
    assert steps == sorted(steps)


def test_there_is_nothing_to_copy_before_the_first_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        TrialFolder(tmp_path).copy_newest(1, tmp_path)


def test_a_trial_that_failed_may_finish_later(tmp_path: Path) -> None:
    assert ended(tmp_path) == {}
    for trial, how in (("a", "failed"), ("b", "finished"), ("a", "finished")):
        note(tmp_path, trial, how)
    assert ended(tmp_path) == {"a": "finished", "b": "finished"}
