"""Metrics on disk and in real W&B run files: whole rows, resumed without seams, and no secret in them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from configs.schema import Config, EnvConfig, WandbConfig
from learner.records import checkpoint, sinks
from learner.records.metrics import METRICS
from learner.records.metrics_file import JsonlSink, SinkError
from learner.records.sinks import MultiSink, WandbSink, open_sinks
from tests.integration.cli import read_metrics
from tests.learner.records.wandb_reader import read_history, read_records, run_files

ROOT = Path(sinks.__file__).parents[2]
KEY = "0123456789abcdef" * 5  # 80 characters, of the form of a real one


# --- several -----------------------------------------------------------------------------------


class Broken:
    errors = 2
    closed_with: int | None = None

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self, exit_code: int = 0) -> None:
        self.closed_with = exit_code
        raise SinkError("broken")


def test_multi_sink_closes_all_and_reports_the_failure(tmp_path: Path) -> None:
    first, second, jsonl = Broken(), Broken(), JsonlSink(tmp_path / "metrics.jsonl")
    sink = MultiSink([first, jsonl, second])
    sink.write(100, {"losses/total": 1.0})
    assert sink.errors == 4
    with pytest.raises(SinkError, match="broken"):
        sink.close(exit_code=1)
    assert first.closed_with == second.closed_with == 1
    with pytest.raises(ValueError, match="closed file"):
        jsonl.write(200, {})


def test_disabled_means_jsonl_only_and_no_wandb_import(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom configs.schema import WandbConfig\n"
        "from learner.records.sinks import open_sinks\n"
        "sink = open_sinks(WandbConfig(mode='disabled'), Path(sys.argv[1]), {})\n"
        "sink.write(1, {'losses/total': 1.0}); sink.close()\n"
        "assert 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=True)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_missing_wandb_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        SinkError, match=r"'offline' needs the wandb package.*pip install.*--wandb.mode disabled"
    ):
        open_sinks(WandbConfig(), tmp_path, {})


# --- W&B, offline for real ---------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_account(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, settings or login of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))


CONFIG = Config(env=EnvConfig(id="memory/tmaze"), num_streams=32, wandb=WandbConfig(group="some group"))


def test_offline_run_holds_every_metric_and_the_config(tmp_path: Path) -> None:
    row = {name: float(index) for index, name in enumerate(METRICS)} | {"suite/human_normalised": 0.5}
    sink = open_sinks(CONFIG.wandb, tmp_path, dataclasses.asdict(CONFIG))
    for step in range(0, 3000, 10):  # more than one 32 KiB block of the run file
        sink.write(step, row)
    print("a line on the console")
    sink.close()
    assert sink.errors == 0
    assert not [child for child in psutil.Process().children() if "wandb" in child.name()]

    (file,) = run_files(tmp_path)
    history = read_history(file)
    assert [entry["global_step"] for entry in history] == list(range(0, 3000, 10))
    for entry in history:
        assert {key: value for key, value in entry.items() if not key.startswith("_")} == {
            "global_step": entry["global_step"],
            **row,
        }
    records = list(read_records(file))
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    assert run.run_id == (tmp_path / "wandb_run_id").read_text().strip()
    assert (run.project, run.run_group, run.display_name) == ("evertrace", "some group", tmp_path.name)
    saved = {item.key: json.loads(item.value_json) for item in run.config.update if item.key != "_wandb"}
    assert saved == dataclasses.asdict(CONFIG)
    metrics = [record.metric for record in records if record.WhichOneof("record_type") == "metric"]
    assert [(metric.glob_name, metric.step_metric) for metric in metrics] == [("*", "global_step")]
    exits = [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"]
    assert exits == [0]
    assert read_metrics(tmp_path)[-1].keys() == {"global_step", "wall_time", *row}
    assert list(tmp_path.rglob("output.log")) == [], "the console is not captured"


def test_failed_run_is_marked_as_failed(tmp_path: Path) -> None:
    sink = open_sinks(WandbConfig(), tmp_path, {})
    sink.write(1, {"losses/total": 1.0})
    sink.close(exit_code=1)
    records = read_records(run_files(tmp_path)[0])
    assert [r.exit.exit_code for r in records if r.WhichOneof("record_type") == "exit"] == [1]


def test_resumed_offline_run_is_whole_in_its_newest_file(tmp_path: Path) -> None:
    """Syncing an offline file overwrites what an earlier one of the same run id brought."""
    sink = open_sinks(WandbConfig(), tmp_path, {})
    for step in (100, 200, 300):
        sink.write(step, {"losses/total": float(step)})
    sink.close()
    sink = open_sinks(WandbConfig(), tmp_path, {}, resume_step=200)
    sink.write(250, {"losses/total": 250.0})
    sink.close()

    first, second = run_files(tmp_path)
    assert first.name == second.name == f"run-{(tmp_path / 'wandb_run_id').read_text().strip()}.wandb"
    old, new = read_history(first), read_history(second)
    assert [(row["global_step"], row["losses/total"]) for row in new] == [(100, 100), (200, 200), (250, 250)]
    assert [row["_step"] for row in new] == [0, 1, 2]
    assert [row["_timestamp"] for row in new[:2]] == pytest.approx(
        [row["_timestamp"] for row in old[:2]], abs=0.1
    )
    assert not any("wall_time" in row for row in new)


def test_the_api_key_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    sink = open_sinks(CONFIG.wandb, tmp_path, dataclasses.asdict(CONFIG))
    sink.write(1, {"losses/total": 1.0})
    sink.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_last_checkpoint_is_an_artifact_of_the_run(tmp_path: Path) -> None:
    for step in (100, 200):
        checkpoint.save(tmp_path / "checkpoints", step, {"w": torch.ones(step)}, {}, keep_last=2)
    sink = open_sinks(WandbConfig(log_checkpoint=True), tmp_path, {})
    sink.write(200, {"losses/total": 1.0})
    sink.close()
    assert sink.errors == 0
    (artifact,) = artifacts(tmp_path)
    assert (artifact.type, artifact.name) == (
        "model",
        f"checkpoint-{(tmp_path / 'wandb_run_id').read_text().strip()}",
    )
    step = tmp_path / "checkpoints" / "step_000000000200"
    listed = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert listed == {name: step / name for name in ("meta.json", "tensors.safetensors")}, "no copy is made"


def test_a_checkpoint_that_wandb_does_not_take_leaves_the_run_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path / "checkpoints", 1, {"w": torch.ones(1)}, {}, keep_last=1)
    sink = open_sinks(WandbConfig(log_checkpoint=True), tmp_path, {})
    monkeypatch.setattr(sinks.checkpoint, "newest", lambda folder: folder / "step_gone")
    sink.close()
    assert sink.errors == 1
    records = read_records(run_files(tmp_path)[0])
    assert [r.exit.exit_code for r in records if r.WhichOneof("record_type") == "exit"] == [0]


@pytest.mark.parametrize("log_checkpoint", [False, True])
def test_no_artifact_unless_asked_for_and_there(tmp_path: Path, log_checkpoint: bool) -> None:
    if not log_checkpoint:
        checkpoint.save(tmp_path / "checkpoints", 1, {"w": torch.ones(1)}, {}, keep_last=1)
    sink = open_sinks(WandbConfig(log_checkpoint=log_checkpoint), tmp_path, {})
    sink.write(1, {"losses/total": 1.0})
    sink.close()
    assert sink.errors == 0 and artifacts(tmp_path) == []


def artifacts(run_dir: Path) -> list[Any]:
    records = [record for file in run_files(run_dir) for record in read_records(file)]
    return [record.artifact for record in records if record.WhichOneof("record_type") == "artifact"]


def test_a_sweep_names_the_run_and_a_resume_keeps_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "swept1")
    open_sinks(WandbConfig(), tmp_path, {}).close()
    monkeypatch.setenv("WANDB_RUN_ID", "another")
    open_sinks(WandbConfig(), tmp_path, {}, resume_step=0).close()
    assert [file.name for file in run_files(tmp_path)] == ["run-swept1.wandb"] * 2


def test_online_without_a_key_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"(?s)W&B could not start: No API key.*wandb login.*offline"):
        WandbSink(WandbConfig(mode="online"), tmp_path, {})


def test_online_without_a_server_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(sinks, "WANDB_INIT_TIMEOUT_S", 3.0)
    with pytest.raises(SinkError, match=r"(?s)W&B could not start.*check the network") as caught:
        WandbSink(WandbConfig(mode="online"), tmp_path, {})
    assert KEY not in str(caught.value)


SERVICE_DIES = """
import os, signal, subprocess, sys, time
from pathlib import Path
from configs.schema import WandbConfig
from learner.records.sinks import open_sinks

sink = open_sinks(WandbConfig(), Path(sys.argv[1]), {})
sink.write(1, {"losses/total": 1.0})
command = ["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="]
children = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
(service,) = [line.split()[0] for line in children if "wandb-core" in line]
os.kill(int(service), signal.SIGKILL)
step = 1
while sink.errors == 0 and step < 20_000:  # W&B notices a while after
    step += 1
    sink.write(step, {"losses/total": float(step)})
    time.sleep(0.01)
errors = sink.errors
sink.close()
print(errors, sink.errors, step)
"""


def test_training_outlives_the_death_of_the_wandb_service(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVICE_DIES, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    during, after, steps = map(int, done.stdout.split())
    assert during == 1 and after == during + 1
    assert done.stderr.count("W&B takes no more metrics") == 1
    assert done.stderr.count("W&B did not end cleanly") == 1
    assert [row["global_step"] for row in read_metrics(tmp_path)] == list(range(1, steps + 1))


def test_rows_after_the_checkpoint_are_taken_back_and_come_again(tmp_path: Path) -> None:
    """In the file, and in the file of a W&B run, of which the newest is the whole one."""
    sink = open_sinks(WandbConfig(mode="offline"), tmp_path, {})
    for step in (10, 20, 30):
        sink.write(step, {"charts/SPS": float(step)})
    sink.roll_back(20)
    sink.write(30, {"charts/SPS": 31.0})
    sink.close()
    expected = [(10, 10.0), (20, 20.0), (30, 31.0)]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    files = sorted(run_files(tmp_path), key=lambda file: file.stat().st_mtime)
    assert len(files) == 2
    for found in (rows, read_history(files[-1])):
        assert [(row["global_step"], row["charts/SPS"]) for row in found] == expected
