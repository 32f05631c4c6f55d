"""A short run by RTRL on each suite of other people's memory tasks that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

import launch as launch_module
from learner.records.checkpoint import load_latest
from tests.integration.cli import read_metrics

SMALL = (
    *("--num-actors", "2", "--env.num-envs", "2", "--batch-size", "4", "--unroll-length", "32"),
    *("--policy.hidden-size", "16", "--total-steps", "200", "--learner-threads", "1"),
    *("--log-interval-s", "0.05", "--wandb.mode", "disabled"),
)


def _check(run_dir: Path) -> None:
    rows = read_metrics(run_dir)
    assert load_latest(run_dir / "checkpoints").step == rows[-1]["global_step"] >= 200
    assert rows[-1]["rtrl/trace_breaks"] == rows[-1]["faults/actor_restarts"] == 0


@pytest.mark.parametrize(
    "preset",
    [
        *("popgym_repeat_first_rtrl", "minigrid_memory_s7_rtrl", "mujoco_inverted_pendulum_p_rtrl"),
        "vizdoom_my_way_home_rtrl",
    ],
)
def test_rtrl_trains(preset: str, tmp_path: Path) -> None:
    """Inline: to Ray, these are Gymnasium environments like any other, and an engine's process one like
    DeepMind Lab's (test_dmlab_runs.py)."""
    pytest.importorskip(preset.partition("_")[0])
    run_dir = tmp_path / "run"
    assert (
        launch_module.main(["train", preset, "--run-dir", str(run_dir), "--runtime", "inline", *SMALL]) == 0
    )
    _check(run_dir)
