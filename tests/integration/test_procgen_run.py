"""A short run on ProcGen by exact RTRL, through Ray, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.envs.suites.procgen.procgen_backends_here import need
from tests.integration.cli import Launch, read_metrics


@pytest.mark.ray
@pytest.mark.usefixtures("nothing_left")
def test_procgen_trains_by_rtrl_through_ray(launch: Launch, tmp_path: Path) -> None:
    need("envpool")
    run_dir = tmp_path / "run"
    code, output = launch(
        *("train", "procgen_bossfight_rtrl_cpu", "--run-dir", str(run_dir), "--total-steps", "960"),
        *("--env.num-envs", "4", "--batch-size", "8", "--log-interval-s", "0.1", "--wandb.mode", "disabled"),
        *("--diagnostics-interval", "1"),
    )
    assert code == 0, output
    config = json.loads((run_dir / "config.json").read_text())
    assert config["env"]["id"] == "procgen/bossfight" and config["runtime"] == "ray"
    assert config["env"]["procgen"] == {
        "num_levels": 200,
        "start_level": 0,
        "distribution_mode": "easy",
        "backend": "auto",
    }
    rows = read_metrics(run_dir)
    assert rows[-1]["global_step"] >= 960
    assert any(row.get("rtrl/trace_norm", 0) > 0 for row in rows)
    assert any("charts/episodic_return" in row for row in rows)
