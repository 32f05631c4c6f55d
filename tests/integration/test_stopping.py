"""Signals, as a terminal, a scheduler and a dropped connection send them to an inline run."""

from __future__ import annotations

import itertools
import signal
import subprocess
from pathlib import Path

from learner.records.checkpoint import load_latest
from tests.integration.cli import Launch, ended, read_metrics, rows_logged, wait_until

WITHOUT_END = ("--total-steps", "1000000000", "--wandb.mode", "disabled", "--runtime", "inline")


def _started(launch: Launch, run_dir: Path) -> subprocess.Popen[str]:
    process = launch.start(
        *("train", "cartpole_rtrl", "--run-dir", str(run_dir), *WITHOUT_END, "--log-interval-s", "0.01")
    )
    wait_until(lambda: rows_logged(run_dir) >= 2, of=process)
    return process


def _ends_well(process: subprocess.Popen[str], run_dir: Path, reason: str) -> None:
    code, output = ended(process)
    assert code == 0, output
    assert f"{reason}: " in output
    assert load_latest(run_dir / "checkpoints").step == read_metrics(run_dir)[-1]["global_step"] > 0


def test_no_signal_makes_a_finished_run_a_failed_one(launch: Launch, tmp_path: Path) -> None:
    """A job script reads the exit code, and schedulers signal again and again."""
    process = launch.start(
        *("train", "memory_rtrl", "--total-steps", "1000", "--wandb.mode", "disabled"),
        *("--run-dir", str(tmp_path / "run")),
    )
    assert process.stdout is not None
    assert any("total_steps = 1000 reached" in line for line in process.stdout)
    numbers = itertools.cycle((signal.SIGTERM, signal.SIGHUP))
    while process.poll() is None:  # from its last words to its end
        process.send_signal(next(numbers))
    assert ended(process)[0] == 0


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
    wait_until(lambda: read_metrics(tmp_path / "run")[-1]["global_step"] > step + 5000, of=process)
    process.send_signal(signal.SIGTERM)
    _ends_well(process, tmp_path / "run", "stopped by SIGTERM")


def test_the_second_interrupt_ends_at_once(launch: Launch, tmp_path: Path) -> None:
    """In a batch that would take hours to collect, and that a clean end would wait for."""
    process = launch.start(
        *("train", "cartpole_rtrl", "--run-dir", str(tmp_path / "run"), *WITHOUT_END),
        *("--unroll-length", "100000000", "--num-streams", "2", "--batch-size", "2"),
    )
    # The checkpoint of the start is written when the loop has begun: by then the handlers stand.
    checkpoints = tmp_path / "run" / "checkpoints"
    wait_until(lambda: any(checkpoints.glob("step_*")), of=process)

    def interrupted() -> bool:
        process.send_signal(signal.SIGINT)
        return process.poll() is not None

    wait_until(interrupted)
    assert ended(process)[0] == 130
    assert load_latest(checkpoints).step == 0
