"""The best weights by evaluation are kept, found by name, and are the ones that were evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import launch
from learner.records.best import BestCheckpoint
from learner.records.choose import load_chosen
from learner.records.metrics_file import read_rows
from learner.records.run_dir import RunDir


def weights(value: float) -> dict[str, np.ndarray]:
    return {"w": np.full(3, value, np.float32)}


def test_the_best_so_far_stays_also_after_a_resume(tmp_path: Path) -> None:
    best = BestCheckpoint(tmp_path, "preset")
    taken = [
        best.offer(10 * step, score, weights(step), {}) for step, score in enumerate([1.0, 3.0, 2.0, 3.0])
    ]
    assert taken == [True, True, False, True], "of two equals the later ones"
    assert not best.offer(50, float("nan"), weights(5), {})
    again = BestCheckpoint(tmp_path, "preset")
    assert not again.offer(5, 2.9, weights(5), {}), "a resumed run knows what it has"
    loaded = load_chosen(tmp_path, "best")
    assert loaded.step == 30 and loaded.tensors["policy/w"].tolist() == [3.0] * 3
    assert again.offer(20, 4.0, weights(6), {}), "also from an earlier step"
    assert load_chosen(tmp_path, "best").step == 20


def test_a_disk_that_is_full_ends_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = BestCheckpoint(tmp_path, "preset")
    (tmp_path / "best").write_text("in the way")
    assert not best.offer(10, 1.0, weights(1), {}) and best.errors == 1
    assert "were not kept" in capsys.readouterr().out


def test_a_run_that_evaluates_itself_keeps_what_it_evaluated_best(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    where = ["--run-dir", str(run_dir), "--wandb.mode", "disabled", "--log-interval-s", "1e-9"]
    more = ["--total-steps", "1600", "--eval.interval-steps", "400", "--eval.episodes", "16"]
    assert launch.main(["train", "memory_rtrl", *where, *more, "--checkpoint.keep-last", "1"]) == 0
    rows = [row for row in read_rows(run_dir / "metrics.jsonl") if "eval/episodic_return" in row]
    top = max(rows, key=lambda row: (row["eval/episodic_return"], row["eval/global_step"]))
    loaded = load_chosen(run_dir / "checkpoints", "best")
    assert loaded.step == top["eval/global_step"] and loaded.meta["score"] == top["eval/episodic_return"]
    state = RunDir.open(run_dir, exclusive=False).load_state("best")
    assert state["counters"]["global_step"] == loaded.step
    newest = RunDir.open(run_dir, exclusive=False).load_state()
    same = all(torch.equal(newest["policy"][name], tensor) for name, tensor in state["policy"].items())
    assert same == (loaded.step == newest["counters"]["global_step"])
    assert launch.main(["eval", str(run_dir), "--checkpoint", "best"]) == 0
