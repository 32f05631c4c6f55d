"""Whole runs through Ray, from the command line: what they leave, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from configs.presets import preset
from learner.records.checkpoint import load_latest
from tests.integration.cli import Launch, ended, named_shared_memory, read_metrics, rows_logged, wait_until
from tests.learner.records.wandb_reader import read_history, run_files

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("nothing_left")]

SLOTS = preset("cartpole_rtrl").num_streams // 2
DOCUMENTED = {
    *("charts/episodic_return", "charts/episodic_length", "charts/SPS", "perf/fps", "global_step"),
    *(f"losses/{name}" for name in ("policy", "baseline", "entropy", "total", "grad_norm")),
    *("vtrace/rho_mean", "vtrace/rho_clip_frac", "vtrace/c_mean"),
    *("lag/policy_version_mean", "lag/policy_version_max", "queue/rollouts", "queue/wait_ms"),
    *(f"perf/time_{p}_ms" for p in ("wait", "transfer", "forward", "backward", "optimizer", "publish")),
    *("rtrl/trace_norm", "rtrl/boundary_grad_frac", "rtrl/trace_breaks"),
    *("faults/actor_restarts", "faults/env_errors", "faults/dropped_rollouts"),
}


def test_atari_by_rtrl_leaves_a_whole_run_directory(launch: Launch, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    code, output = launch(
        *("train", "atari_breakout_rtrl_cpu", "--run-dir", str(run_dir)),
        *("--total-steps", "1280", "--diagnostics-interval", "1", "--log-interval-s", "0.1"),
        *("--env.num-envs", "4", "--batch-size", "8", "--wandb.mode", "offline"),
        *("--env.max-episode-frames", "300"),  # games of 75 steps: some end
    )
    assert code == 0, output
    assert "total_steps = 1280 reached" in output and str(run_dir) in output
    config = json.loads((run_dir / "config.json").read_text())
    assert config["env"]["id"] == "ALE/Breakout-v5" and config["runtime"] == "ray"
    rows = read_metrics(run_dir)
    assert rows[-1]["global_step"] >= 1280
    assert load_latest(run_dir / "checkpoints").step == rows[-1]["global_step"]
    (wandb_file,) = run_files(run_dir)
    history = read_history(wandb_file)
    for source in (rows, history):
        seen = set().union(*source)
        assert seen >= DOCUMENTED, f"missing: {DOCUMENTED - seen}"
    assert all(row["perf/fps"] == pytest.approx(4 * row["charts/SPS"]) for row in rows)
    returns = [row["charts/episodic_return"] for row in rows if "charts/episodic_return" in row]
    assert returns and all(0 <= value < 100 for value in returns)


def _started(launch: Launch, run_dir: Path, *more: str) -> subprocess.Popen[str]:
    """A run that has learned from something."""
    process = launch.start(
        *("train", "cartpole_rtrl", "--run-dir", str(run_dir), "--total-steps", "100000000"),
        *("--num-actors", "2", "--wandb.mode", "disabled", "--log-interval-s", "0.2", *more),
    )
    wait_until(lambda: rows_logged(run_dir) >= 2, of=process)
    return process


def _ask_to_stop(process: subprocess.Popen[str], run_dir: Path, number: signal.Signals, send: Any) -> str:
    """It saves and ends cleanly; what it printed."""
    send(process.pid, number)
    code, output = ended(process)
    assert code == 0, output
    assert f"stopped by {number.name}" in output
    assert load_latest(run_dir / "checkpoints").step == read_metrics(run_dir)[-1]["global_step"]
    return output


def test_ctrl_c_in_a_terminal_reaches_every_process_and_loses_nothing(launch: Launch, tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to the whole group, Ray's processes too."""
    process = _started(launch, tmp_path / "run", "--prefetch", "off")  # on: the killed actor's run, below
    _ask_to_stop(process, tmp_path / "run", signal.SIGINT, os.killpg)


def test_killed_it_leaves_nothing_running_and_can_be_resumed(launch: Launch, tmp_path: Path) -> None:
    """By PPO, whose metrics both halves have."""
    run_dir = tmp_path / "run"
    ppo = ("--objective", "ppo", "--ppo.chunk-length", "16", "--diagnostics-interval", "1")
    process = _started(launch, run_dir, *ppo)
    reached = read_metrics(run_dir)[-1]["global_step"]
    root = psutil.Process(process.pid)
    held = [named_shared_memory(member) for member in (root, *root.children(recursive=True))]
    assert not any(held), "what has a name outlives its process"
    process.send_signal(signal.SIGKILL)
    ended(process)
    before = load_latest(run_dir / "checkpoints").step
    code, output = launch("train", "--resume", str(run_dir), "--total-steps", str(before + 4096))
    assert code == 0, output
    assert f"total_steps = {before + 4096} reached" in output
    rows = read_metrics(run_dir)
    steps = [row["global_step"] for row in rows]
    assert steps == sorted(steps) and steps[-1] == before + 4096 and reached > 0
    seen = set().union(*(row for row in rows if row["global_step"] > before))
    assert seen >= {"ppo/approx_kl", "ppo/clip_frac", "ppo/explained_variance", "rtrl/boundary_grad_frac"}
    assert not any(name.startswith("vtrace/") for name in seen)
    assert all(row["ppo/approx_kl"] > 0 for row in rows if "ppo/approx_kl" in row)


def _listening(process: subprocess.Popen[str]) -> list[tuple[str, str]]:
    """Name and address of what listens, of the run and all below it."""
    root = psutil.Process(process.pid)
    family = {member.pid: member.name() for member in (root, *root.children(recursive=True))}
    return [
        (family[connection.pid], connection.laddr.ip)
        for connection in psutil.net_connections(kind="inet")
        if connection.laddr and connection.status == psutil.CONN_LISTEN and connection.pid in family
    ]


def test_a_killed_actor_is_replaced_on_loopback_alone_and_sigterm_saves(
    launch: Launch, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    process = _started(launch, run_dir, "--prefetch", "on")
    listening = _listening(process)
    assert listening, "Ray listens somewhere"
    assert [entry for entry in listening if entry[1] not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")] == []
    workers = [
        child
        for child in psutil.process_iter(["cmdline"])
        if "ray::RolloutWorker" in " ".join(child.info["cmdline"] or []) and _descends(child, process.pid)
    ]
    assert len(workers) == 2
    os.kill(workers[0].pid, signal.SIGKILL)
    wait_until(lambda: read_metrics(run_dir)[-1]["faults/actor_restarts"] == 1, of=process)
    wait_until(lambda: read_metrics(run_dir)[-1]["rtrl/trace_breaks"] == SLOTS, of=process)
    step = read_metrics(run_dir)[-1]["global_step"]
    wait_until(lambda: read_metrics(run_dir)[-1]["global_step"] > step + 5000, of=process)
    output = _ask_to_stop(process, run_dir, signal.SIGTERM, os.kill)
    assert "a new incarnation starts" in output


def _descends(process: psutil.Process, ancestor: int) -> bool:
    return any(parent.pid == ancestor for parent in process.parents())


def test_an_env_that_keeps_failing_ends_the_run_with_its_own_error(launch: Launch, tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    fault.write_text("step 0 100000")
    process = launch.start(
        *(
            "train",
            "cartpole_rtrl",
            "--env.id",
            "tests.faulty_env:Faulty-v0",
            "--run-dir",
            str(tmp_path / "run"),
        ),
        *("--wandb.mode", "disabled", "--ray.max-consecutive-failures", "2", "--prefetch", "on"),
        EVERTRACE_FAULT=str(fault),
    )
    code, output = ended(process)
    assert code == 1, output
    assert "the emulator broke in step" in output and "2 times in a row" in output
