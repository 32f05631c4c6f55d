"""What a run stands on is lost: its temporary folder under it (fault 29), its whole machine (fault 26)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from learner.records.checkpoint import load_latest, newest
from tests.integration.cli import Launch, ended, read_metrics, rows_logged, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("nothing_left")]

SMALL = ("--num-streams", "4", "--num-actors", "1", "--batch-size", "4", "--unroll-length", "5")
OFTEN = ("--checkpoint.interval-s", "0.5", "--log-interval-s", "0.05", "--wandb.mode", "disabled")
WITHOUT_END = ("--runtime", "ray", "--total-steps", "1000000000")


def _status(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "status.json"
    return json.loads(path.read_text()) if path.exists() else {"state": None, "actors": []}


def _starts(run_dir: Path) -> list[int]:
    lines = (run_dir / "starts.jsonl").read_text().splitlines()
    return [json.loads(line)["global_step"] for line in lines]


def _works(run_dir: Path, starts: int) -> bool:
    """Whether it has learned and saved since it was started for so many times, and its actor is known."""
    if rows_logged(run_dir) < 3 or len(_starts(run_dir)) < starts:
        return False
    saved, status = newest(run_dir / "checkpoints"), _status(run_dir)
    known = status["actors"] and all(actor["pid"] for actor in status["actors"])
    learned = saved is not None and saved.name > f"step_{_starts(run_dir)[-1]:012d}"
    return learned and bool(known) and status["state"] == "training"


def _kill_all(process: subprocess.Popen[str]) -> None:
    """As where a machine loses its power: nobody hears of another's end."""
    driver = psutil.Process(process.pid)
    family = [driver, *driver.children(recursive=True)]
    assert {"raylet", "gcs_server"} <= {one.name() for one in family}
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(number)
    process.wait()
    psutil.wait_procs(family)


def test_a_run_outlives_its_temporary_folder_and_its_machine(
    launch: Launch, tmp_path: Path, temporary: Path
) -> None:
    run_dir = tmp_path / "run"
    words = ("cartpole_rtrl", "--run-dir", str(run_dir), "--ray.start-timeout-s", "60")
    process = launch.start("train", *words, *SMALL, *OFTEN, *WITHOUT_END)
    wait_until(lambda: _works(run_dir, 1), of=process)
    (session,) = temporary.glob("evertrace-ray-*")
    shutil.rmtree(session, ignore_errors=True)  # files come while it goes
    step = read_metrics(run_dir)[-1]["global_step"]
    wait_until(lambda: read_metrics(run_dir)[-1]["global_step"] > step + 100, of=process)
    os.kill(_status(run_dir)["actors"][0]["pid"], signal.SIGKILL)
    wait_until(lambda: _status(run_dir)["state"] == "starving", of=process)
    assert "actor 0 waits for a place or a process" in _status(run_dir)["why"]
    code, output = ended(process)
    assert code == 1 and "no rollout for 60 s (ray.start_timeout_s)" in output, output
    assert "the learner starves: no rollout for" in output and len(_starts(run_dir)) == 1, output
    step = load_latest(run_dir / "checkpoints").step
    assert step >= read_metrics(run_dir)[-1]["global_step"], "every update is saved"

    process = launch.start("train", "--resume", str(run_dir))
    wait_until(lambda: _works(run_dir, 2), of=process)
    assert _starts(run_dir) == [0, step]
    _kill_all(process)
    elsewhere = tmp_path / "elsewhere" / "run"
    shutil.copytree(run_dir, elsewhere)
    run_dir.rename(tmp_path / "lost")
    step = load_latest(elsewhere / "checkpoints").step
    code, output = launch("train", "--resume", str(elsewhere), "--total-steps", str(step + 400))
    assert code == 0 and f"total_steps = {step + 400} reached" in output, output
    assert _starts(elsewhere)[-1] == step and load_latest(elsewhere / "checkpoints").step == step + 400
    steps = [row["global_step"] for row in read_metrics(elsewhere)]
    assert steps == sorted(set(steps)) and steps[-1] == step + 400 and not run_dir.exists()
