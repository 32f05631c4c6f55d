"""Observations of several parts and continuous actions, through every room from the actors to evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import launch as launch_module
from tests.integration.cli import Launch, read_metrics

ENV = ["--env.id", "tests.parts_env:Target-v0", "--policy.encoder", "deep", "--policy.features", "16"]
RUN = [*ENV, "--unroll-length", "3", "--wandb.mode", "disabled"]


@pytest.mark.parametrize("credit", ["rtrl", "tbptt"])
def test_a_policy_learns_from_parts_by_continuous_actions(credit: str, tmp_path: Path) -> None:
    run, result = str(tmp_path / "run"), tmp_path / "eval.json"
    # At the preset's 3e-3, two seeds of five end up at an action between the two targets.
    more = ["--total-steps", "10000", "--policy.previous-action", "--learning-rate", "1e-3"]
    assert launch_module.main(["train", f"memory_{credit}", *RUN, *more, "--run-dir", run]) == 0
    assert launch_module.main(["eval", run, "--episodes", "64", "--greedy", "--json", str(result)]) == 0
    # Without the target nothing is better than 0.25 on average: one of the two, or 0.
    assert json.loads(result.read_text())["episodic_return_mean"] > 0.7


@pytest.mark.ray
def test_parts_travel_through_ray_and_the_history_of_fresh_traces(tmp_path: Path, launch: Launch) -> None:
    more = ["--total-steps", "960", "--runtime", "ray", "--num-actors", "2", "--env.num-envs", "8"]
    options = ["--rtrl.staleness-interval", "2", "--ray.object-store-mib", "100"]
    run = ["--run-dir", str(tmp_path / "run")]
    code, output = launch("train", "memory_rtrl", *RUN, *more, *options, *run)
    assert code == 0, output
    rows = read_metrics(tmp_path / "run")
    assert rows[-1]["global_step"] >= 960
    assert any("rtrl/staleness_cos" in row for row in rows)
