"""The SLURM script, in a real SLURM of one node: what it does before a time limit and after a preemption.

All but the first is for `make test-slurm`; tests/docker/test_lint.py checks every script's syntax.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from learner.records.checkpoint import load_latest
from tests.cluster.slurm import Slurm, missing
from tests.integration.cli import read_metrics, rows_logged, wait_until

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "cluster" / "train.sbatch"
OPTED_IN = os.environ.get("EVERTRACE_TEST_SLURM") == "1"
REASON = missing() if OPTED_IN else "opt-in, minutes and a SLURM: make test-slurm"
needs_slurm = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.mark.parametrize("arguments", [[], ["runs/x"], ["runs/x", "--total-steps"]])
def test_without_a_run_directory_and_a_preset_it_tells_its_usage(arguments: list[str]) -> None:
    done = subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("usage: sbatch")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    cluster = Slurm()
    try:
        yield cluster
    finally:
        cluster.close()


def _submit(slurm: Slurm, run_dir: Path, output: Path, *more: str) -> str:
    options = ("--parsable", "--cpus-per-task=3", "--time=60", f"--output={output}")
    train = (str(run_dir), "cartpole_rtrl", "--wandb.mode", "disabled", "--log-interval-s", "0.5")
    environment = f"--export=ALL,PYTHON={sys.executable}"
    return slurm.run("sbatch", *options, environment, str(SCRIPT), *train, *more).strip()


def _left_behind(job: str) -> list[str]:
    """Processes and folders of Ray that belong to a job."""
    mark = f"/tmp/evertrace-{job}"
    found = [mark] if Path(mark).exists() else []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        found += [command[:100]] if mark in command else []
    return found


@needs_slurm
def test_asked_to_stop_it_saves_and_goes_on_at_the_same_step(slurm: Slurm, tmp_path: Path) -> None:
    """What --signal=B:TERM@120 sends: a signal to the batch script alone."""
    run_dir, output = tmp_path / "run", tmp_path / "out"
    job = _submit(slurm, run_dir, output, "--total-steps", "100000000")
    wait_until(lambda: rows_logged(run_dir) > 2)
    (token,) = run_dir.glob(".ray-token-*")
    assert token.stat().st_mode & 0o777 == 0o600
    secret = token.read_text().strip()
    slurm.run("scancel", "--signal=TERM", "--batch", job)
    wait_until(lambda: "the job is queued again" in output.read_text())
    stopped_at = load_latest(run_dir / "checkpoints").step
    assert f"stopped by SIGTERM: {stopped_at:,} steps" in output.read_text()
    wait_until(lambda: slurm.state(job) == "PENDING")
    assert _left_behind(job) == [] and not token.exists()

    wait_until(lambda: read_metrics(run_dir)[-1]["global_step"] > stopped_at)
    steps = [row["global_step"] for row in read_metrics(run_dir)]
    assert stopped_at in steps and steps == sorted(steps)
    slurm.run("scancel", "--signal=KILL", "--full", job)
    wait_until(lambda: slurm.state(job) not in ("RUNNING", "COMPLETING"))
    assert secret not in output.read_text()
    assert not any(secret in path.read_text() for path in run_dir.glob("*.log"))


@needs_slurm
def test_preempted_by_force_it_goes_on_from_its_last_checkpoint_to_the_end(
    slurm: Slurm, tmp_path: Path
) -> None:
    """Every process is told at once, Ray's too, as in a preemption without notice."""
    run_dir, output = tmp_path / "run", tmp_path / "out"
    total = 600_000
    job = _submit(slurm, run_dir, output, "--total-steps", str(total), "--checkpoint.interval-s", "1")
    wait_until(lambda: rows_logged(run_dir) > 2 and load_latest(run_dir / "checkpoints").step > 0)
    saved = load_latest(run_dir / "checkpoints").step
    slurm.run("scontrol", "requeue", job)
    wait_until(lambda: slurm.state(job) == "COMPLETED")
    assert "the job is queued again" not in output.read_text(), "SLURM has queued it already"
    starts = [int(line.partition('"global_step": ')[2].partition(",")[0]) for line in _starts(run_dir)]
    assert starts[0] == 0 and len(starts) == 2 and saved <= starts[1] < total
    assert f"total_steps = {total} reached" in output.read_text()
    assert _left_behind(job) == []


def _starts(run_dir: Path) -> list[str]:
    return (run_dir / "starts.jsonl").read_text().splitlines()
