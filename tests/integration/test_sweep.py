"""docs/sweep.yaml, carried out by W&B's own agent; only the server that chooses the values is missing."""

from __future__ import annotations

import json
import os
import queue
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.wandb_agent import Agent

import launch
from configs.presets import preset
from configs.schema import Config
from learner.records.metrics import METRICS
from tests.learner.records.wandb_reader import read_records, run_files

ROOT = Path(launch.__file__).parent
SWEEP: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "sweep.yaml").read_text())


def some_value(parameter: dict[str, Any]) -> float:
    return parameter["values"][-1] if "values" in parameter else parameter["max"]


def test_agent_trains_with_the_values_of_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {name: some_value(parameter) for name, parameter in SWEEP["parameters"].items()}
    command = list(SWEEP["command"])
    command[command.index(".venv/bin/python")] = sys.executable
    command[command.index("online")] = "offline"
    command += ["--run-dir", str(tmp_path / "run"), "--total-steps", "2000", "--runtime", "inline"]
    monkeypatch.chdir(ROOT)
    before = dict(os.environ)
    try:
        os.environ |= {"WANDB_SWEEP_ID": "sweep1", "WANDB_DIR": str(tmp_path)}
        agent = Agent(None, queue.Queue(), "sweep1")
        agent._sweep_command = command  # as the server tells it
        arguments = {name: {"value": value} for name, value in values.items()}
        told = {"type": "run", "run_id": "swept1", "program": SWEEP["program"], "args": arguments}
        answer = agent._process_command(told)
        assert "exception" not in answer, answer
        assert agent._run_processes["swept1"].wait() == 0
    finally:
        os.environ.clear()
        os.environ.update(before)

    config = Config.from_json((tmp_path / "run" / "config.json").read_text())
    assert config.preset == preset(command[command.index("train") + 1]).preset
    got = {name: value for name, value in flat(json.loads(config.to_json())).items() if name in values}
    assert got == values
    (file,) = run_files(tmp_path)  # WANDB_DIR, as the agent has it
    assert file.name == "run-swept1.wandb", "another id would leave the sweep with a run that never reports"
    (run,) = (record.run for record in read_records(file) if record.WhichOneof("record_type") == "run")
    assert run.sweep_id == "sweep1"


def test_the_sweep_measures_what_is_logged() -> None:
    assert SWEEP["metric"]["name"] in METRICS


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
