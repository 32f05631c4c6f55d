"""Whole inline runs whose environment misbehaves: what a job script and the run directory then say."""

from __future__ import annotations

import os
from pathlib import Path

from learner.records.checkpoint import load_latest
from tests.integration.cli import ROOT, Launch, ended
from tests.rude_env import RUDE_VARIABLE

RUN = (
    *("train", "memory_rtrl", "--env.id", "tests.rude_env:Rude-v0", "--env.num-envs", "4"),
    *("--batch-size", "4", "--policy.encoder", "mlp", "--runtime", "inline", "--wandb.mode", "disabled"),
)


def test_an_environment_that_sets_the_whole_process_changes_nothing_of_the_run(
    launch: Launch, tmp_path: Path
) -> None:
    run_dir = Path(os.path.relpath(tmp_path / "run", ROOT))
    process = launch.start(
        *RUN, "--run-dir", str(run_dir), "--total-steps", "400", **{RUDE_VARIABLE: "state close"}
    )
    code, output = ended(process)
    assert code == 0 and "total_steps = 400 reached" in output, output
    assert load_latest(tmp_path / "run" / "checkpoints").step >= 400
    assert "it does not want to be closed" in output


def test_an_environment_that_exits_is_a_run_that_failed(launch: Launch, tmp_path: Path) -> None:
    process = launch.start(*RUN, "--run-dir", str(tmp_path / "run"), **{RUDE_VARIABLE: "exit-step"})
    code, output = ended(process)
    assert code == 1, output
    assert "tests.rude_env:Rude-v0: step() raised SystemExit(0)" in output
    assert "tests/rude_env.py" in output, "where it did so"
