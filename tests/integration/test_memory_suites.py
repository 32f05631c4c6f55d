"""A short run by RTRL through Ray on each suite of other people's memory tasks that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from learner.records.checkpoint import load_latest
from tests.integration.cli import Launch, read_metrics

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("nothing_left")]

SMALL = (
    *(
        "--runtime",
        "ray",
        "--num-actors",
        "2",
        "--env.num-envs",
        "2",
        "--batch-size",
        "4",
        "--unroll-length",
        "10",
    ),
    *("--policy.hidden-size", "16", "--total-steps", "200", "--learner-threads", "1"),
    *("--ray.object-store-mib", "100", "--log-interval-s", "0.05", "--wandb.mode", "disabled"),
)


@pytest.mark.parametrize(
    "preset",
    [
        "popgym_repeat_first_rtrl",
        "minigrid_memory_s7_rtrl",
        "mujoco_inverted_pendulum_p_rtrl",
        "vizdoom_my_way_home_rtrl",
    ],
)
def test_rtrl_trains_through_ray(preset: str, launch: Launch, tmp_path: Path) -> None:
    pytest.importorskip(preset.partition("_")[0])
    code, output = launch("train", preset, "--run-dir", str(tmp_path / "run"), *SMALL)
    assert code == 0 and "total_steps = 200 reached" in output, output
    rows = read_metrics(tmp_path / "run")
    assert load_latest(tmp_path / "run" / "checkpoints").step == rows[-1]["global_step"] >= 200
    assert rows[-1]["rtrl/trace_breaks"] == rows[-1]["faults/actor_restarts"] == 0
