"""A short run on ProcGen by exact RTRL, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import launch as launch_module
from tests.envs.suites.procgen.procgen_backends_here import need
from tests.integration.cli import read_metrics


def test_procgen_trains_by_rtrl(tmp_path: Path) -> None:
    """Inline: to Ray it is an engine of several games like Atari's (test_runs_through_ray.py)."""
    need("envpool")
    run_dir = tmp_path / "run"
    words = ("train", "procgen_bossfight_rtrl_cpu", "--runtime", "inline", "--run-dir", str(run_dir))
    small = ("--num-actors", "2", "--env.num-envs", "4", "--batch-size", "8", "--total-steps", "960")
    told = ("--log-interval-s", "0.1", "--wandb.mode", "disabled", "--diagnostics-interval", "1")
    assert launch_module.main([*words, *small, *told]) == 0
    config = json.loads((run_dir / "config.json").read_text())
    assert config["env"]["id"] == "procgen/bossfight"
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
