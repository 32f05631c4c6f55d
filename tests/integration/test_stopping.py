"""Signals, as a terminal, a scheduler and a dropped connection send them to an inline run."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from learner.records.checkpoint import load_latest
from tests.integration.cli import Launch, read_metrics, rows_logged, wait_until

pytestmark = pytest.mark.timeout(300)

WITHOUT_END = ("--total-steps", "1000000000", "--wandb.mode", "disabled", "--runtime", "inline")


def _started(launch: Launch, run_dir: Path, *more: str) -> subprocess.Popen[str]:
    process = launch.start(
        *("train", "cartpole_rtrl", "--run-dir", str(run_dir), *WITHOUT_END, "--log-interval-s", "0.01"),
        *more,
    )
    wait_until(lambda: process.poll() is not None or rows_logged(run_dir) >= 2, timeout_s=200)
    return process


def _ends_well(process: subprocess.Popen[str], run_dir: Path, reason: str) -> None:
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert f"{reason}: " in output
    assert load_latest(run_dir / "checkpoints").step == read_metrics(run_dir)[-1]["global_step"] > 0


def test_a_hang_up_is_a_stop(launch: Launch, tmp_path: Path) -> None:
    """A connection that drops. SIGTERM and SIGINT: here below, and in test_runs_through_ray.py."""
    process = _started(launch, tmp_path / "run")
    process.send_signal(signal.SIGHUP)
    _ends_well(process, tmp_path / "run", "stopped by SIGHUP")


def test_a_hang_up_that_is_ignored_stays_ignored(launch: Launch, tmp_path: Path) -> None:
    """So under nohup: the run goes on when its terminal has gone."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited, as nohup hands it on
    try:
        process = _started(launch, tmp_path / "run")
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    step = read_metrics(tmp_path / "run")[-1]["global_step"]
    wait_until(
        lambda: process.poll() is not None or read_metrics(tmp_path / "run")[-1]["global_step"] > step + 5000,
        timeout_s=200,
    )
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _ends_well(process, tmp_path / "run", "stopped by SIGTERM")


def test_the_second_interrupt_ends_at_once(launch: Launch, tmp_path: Path) -> None:
    """In a batch that takes hours to collect. A SIGTERM before is no interrupt."""
    process = launch.start(
        *("train", "cartpole_rtrl", "--run-dir", str(tmp_path / "run"), *WITHOUT_END),
        *("--unroll-length", "100000000", "--env.num-envs", "1", "--batch-size", "2"),
    )
    # The checkpoint of the start is written when the loop has begun: by then the handlers stand.
    checkpoints = tmp_path / "run" / "checkpoints"
    wait_until(lambda: process.poll() is not None or any(checkpoints.glob("step_*")), timeout_s=200)
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=200)
    assert process.returncode == 130
    assert load_latest(checkpoints).step == 0
