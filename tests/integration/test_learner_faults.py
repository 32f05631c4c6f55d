"""What becomes of a run through Ray whose learner dies, raises, hangs, or is asked to stop meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.fleet.session_folder import remove_abandoned
from learner.records.checkpoint import load_latest, newest
from tests.faulty_learner import LEARNER_FAULT
from tests.integration.cli import Launch, ended, leavings, read_metrics, rows_logged, runs, wait_until
from tests.learner.records.wandb_reader import read_history, run_files

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("nothing_left")]

ENV = ("--env.id", "tests.faulty_learner:Plain-v0", "--policy.encoder", "mlp")
SMALL = ("--num-streams", "4", "--num-actors", "1", "--batch-size", "4", "--unroll-length", "5")
WITHOUT_END = ("--total-steps", "1000000000", "--log-interval-s", "0.05")


def _begin(
    launch: Launch, run_dir: Path, *more: str, fault: str = "", wandb: str = "disabled", **environment: str
) -> subprocess.Popen[str]:
    path = run_dir.with_name("fault")
    if fault:
        path.write_text(fault)
    words = ("train", "cartpole_rtrl", "--run-dir", str(run_dir), *ENV, *SMALL, *WITHOUT_END)
    return launch.start(*words, "--wandb.mode", wandb, *more, **{LEARNER_FAULT: str(path)}, **environment)


def _status(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "status.json"
    return json.loads(path.read_text()) if path.exists() else {"state": None, "ranks": []}


def _starts(run_dir: Path) -> list[int]:
    return [json.loads(line)["global_step"] for line in (run_dir / "starts.jsonl").read_text().splitlines()]


def _learns(run_dir: Path, restarts: int) -> bool:
    """Whether it has learned since its last restart, saved that, and told of it."""
    if not (run_dir / "starts.jsonl").exists() or len(_starts(run_dir)) <= restarts:
        return False
    saved = newest(run_dir / "checkpoints")
    if saved is None or rows_logged(run_dir) < 3:
        return False
    step = int(saved.name.rpartition("_")[2])
    return _starts(run_dir)[-1] < step < read_metrics(run_dir)[-1]["global_step"]


def _works(run_dir: Path) -> bool:
    """Whether the learner trains, and the processes of its actors are known."""
    status = _status(run_dir)
    actors = status.get("actors")
    return status["state"] == "training" and bool(actors) and all(actor["pid"] for actor in actors)


def _in_order(rows: list[dict[str, Any]]) -> bool:
    steps = [row["global_step"] for row in rows]
    return all(before < after for before, after in itertools.pairwise(steps))


def test_a_killed_and_a_frozen_learner_go_on_from_the_newest_checkpoint(
    launch: Launch, tmp_path: Path
) -> None:
    """Faults 8 and 31, then 12: a stop, with a checkpoint. The first is forgiven by what was saved since."""
    run_dir = tmp_path / "run"
    limits = ("--checkpoint.interval-s", "0.5", "--ray.learner-timeout-s", "60")
    limits += ("--ray.max-learner-failures", "2")
    process = _begin(launch, run_dir, *limits, wandb="offline")
    wait_until(lambda: _learns(run_dir, 0), of=process)
    for restarts, number in enumerate((signal.SIGKILL, signal.SIGSTOP), start=1):
        wait_until(lambda: _works(run_dir), of=process)
        status = _status(run_dir)
        assert status["driver"]["pid"] == process.pid
        (rank,), actors = status["ranks"], [psutil.Process(actor["pid"]) for actor in status["actors"]]
        assert psutil.Process(rank["pid"]).name() == "ray::Rank" and actors
        os.kill(rank["pid"], number)
        wait_until(lambda: _learns(run_dir, restarts), of=process)  # noqa: B023 it waits here
        assert not psutil.pid_exists(rank["pid"]) and not any(actor.is_running() for actor in actors)
        assert _status(run_dir)["learner_restarts"] == restarts
        assert read_metrics(run_dir)[-1]["faults/learner_restarts"] == restarts
        assert _in_order(read_metrics(run_dir)), "what was recorded after the checkpoint is taken back"
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert code == 0, output
    assert "stopped by SIGTERM" in output and output.count("the learner failed, and goes on from step_") == 2
    assert "it has not moved for" in output and output.count("the learner learns again, ") == 2, output
    print("\n".join(line for line in output.splitlines() if "learns again" in line))
    rows, starts = read_metrics(run_dir), _starts(run_dir)
    assert load_latest(run_dir / "checkpoints").step == rows[-1]["global_step"]
    assert starts[0] == 0 < starts[1] < starts[2], "each goes on from a later checkpoint"
    assert _in_order(rows) and _status(run_dir)["state"] == "done"
    histories = [
        read_history(file) for file in sorted(run_files(run_dir), key=lambda file: file.stat().st_mtime)
    ]
    assert len(histories) == 3, "one for each course"
    assert [row["global_step"] for row in histories[-1]] == [row["global_step"] for row in rows]


def test_a_learner_that_keeps_dying_ends_the_run_with_the_cause(launch: Launch, tmp_path: Path) -> None:
    """It is killed at its third update: always the same, since nothing is saved in between."""
    run_dir = tmp_path / "run"
    process = _begin(launch, run_dir, "--ray.max-learner-failures", "2", fault="kill 3 100")
    code, output = ended(process)
    assert code == 1, output
    assert "the learner failed 2 times" in output and "ray.max_learner_failures" in output, output
    assert output.count("the learner failed, and goes on from step_000000000000") == 1, output
    assert (tmp_path / "fault").read_text() == "kill 3 98"
    assert load_latest(run_dir / "checkpoints").step == 0 and _status(run_dir)["state"] == "failed"


def test_an_error_and_a_hanging_loop_are_told_and_survived(launch: Launch, tmp_path: Path) -> None:
    """An error leaves a checkpoint behind, and says itself what it is; that a loop does not come round is
    found though the process answers, and where it hangs is told. The first answers of every process to every
    other are lost meanwhile, which costs no learner. The time limit is that of all lives together."""
    run_dir = tmp_path / "run"
    lost = {"CoreWorkerService.grpc_client.PushTask": {"num_failures": 4, "resp_failure_prob": 100}}
    environment = {"RAY_testing_rpc_failure": json.dumps(lost)}
    limits = ("--ray.learner-timeout-s", "60", "--time-limit-s", "3590")
    process = _begin(launch, run_dir, *limits, fault="raise 3 1", **environment)
    wait_until(lambda: run_dir.joinpath("starts.jsonl").exists() and len(_starts(run_dir)) == 2, of=process)
    assert _starts(run_dir) == [0, 3 * 20]
    (tmp_path / "fault").write_text("hang 4 1")
    wait_until(lambda: len(_starts(run_dir)) == 3, of=process)
    wait_until(lambda: read_metrics(run_dir)[-1]["global_step"] > _starts(run_dir)[-1], of=process)
    process.send_signal(signal.SIGINT)
    code, output = ended(process)
    assert code == 0, output
    assert "RuntimeError: the learner broke" in output and "it has not moved for" in output, output
    assert "Task Rank.build failed" in output and "Task Rank.hear failed" in output, "calls were lost"
    assert output.count("the learner failed") == 2, output
    assert "faulty_learner.py" in output.partition("it has not moved for")[2], output
    left = [60 * int(minutes) + int(s) for minutes, s in re.findall(r"(\d+) min (\d+) s left", output)]
    assert left[0] - left[-1] >= 60, "the time limit began anew"


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("nan 2 1", 1, "loss nan"),
        ("config 2 1", 2, "total_steps = 1: the learner does not want it"),
        ("memory 2 1", 1, "lower batch_size"),
    ],
)
def test_what_a_restart_does_not_mend_ends_the_run_with_its_message(
    launch: Launch, tmp_path: Path, fault: str, code: int, message: str
) -> None:
    """Fault 20 is the last one: no memory, here when it may not be tried again."""
    run_dir = tmp_path / "run"
    process = _begin(launch, run_dir, "--ray.max-learner-failures", "1", fault=fault)
    found, output = ended(process)
    assert found == code, output
    assert message in output and "goes on from" not in output, output
    assert len(_starts(run_dir)) == 1 and load_latest(run_dir / "checkpoints").step <= 2 * 20
    assert ("ray.max_learner_failures" in output) == fault.startswith("memory")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_of_all_processes_loses_nothing(
    launch: Launch, tmp_path: Path, number: signal.Signals
) -> None:
    """As an init system ends a service, or a terminal that is closed: Ray's processes are asked too, and were
    they to end, its control store last, the learner would be killed in the middle of a save that takes
    seconds."""
    run_dir = tmp_path / "run"
    process = _begin(launch, run_dir, "--checkpoint.interval-s", "600", fault="slow 1 1")
    wait_until(lambda: rows_logged(run_dir) > 2, of=process)
    step = read_metrics(run_dir)[-1]["global_step"]
    driver = psutil.Process(process.pid)
    family = [*driver.children(recursive=True), driver]
    (store,) = (member for member in family if member.name() == "gcs_server")
    (actor,) = (member for member in family if "RolloutWorker" in member.name())
    for member in family:
        if member != store:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(number)
    wait_until(lambda: not runs(actor))  # and a raylet that heard it would be gone as well
    store.send_signal(number)
    code, output = ended(process)
    assert code == 0 and f"stopped by {number.name}" in output, output
    assert load_latest(run_dir / "checkpoints").step >= step > 0


@pytest.mark.parametrize(("fault", "code"), [("saved 1 1", 0), ("unsaved 1 1", 1)])
def test_a_learner_that_dies_of_a_stop_ends_well_if_it_had_saved(
    launch: Launch, tmp_path: Path, fault: str, code: int
) -> None:
    """It is gone before it can say so, or before it has done it; that is what the exit code tells."""
    run_dir = tmp_path / "run"
    process = _begin(launch, run_dir, "--checkpoint.interval-s", "600", fault=fault)
    wait_until(lambda: rows_logged(run_dir) > 2, of=process)
    process.send_signal(signal.SIGTERM)
    found, output = ended(process)
    step = load_latest(run_dir / "checkpoints").step
    assert found == code and "stopped by SIGTERM" in output, output
    assert ("failed before its last checkpoint" in output) == (code == 1), output
    assert (step >= read_metrics(run_dir)[-1]["global_step"] > 0) == (code == 0)
    assert len(_starts(run_dir)) == 1 and _status(run_dir)["state"] == ("failed" if code else "done")


def test_without_ray_nothing_is_tried_again(launch: Launch, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = _begin(launch, run_dir)
    wait_until(lambda: rows_logged(run_dir) > 2, of=process)
    (raylet,) = [p for p in psutil.Process(process.pid).children(recursive=True) if p.name() == "raylet"]
    raylet.kill()
    code, output = ended(process)
    assert code == 1 and "Ray has died on this machine" in output, output
    assert _status(run_dir)["state"] == "failed" and len(_starts(run_dir)) == 1


def test_a_stop_during_a_restart_starts_nothing(launch: Launch, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = _begin(launch, run_dir, "--checkpoint.interval-s", "0.5")
    wait_until(lambda: _learns(run_dir, 0), of=process)
    os.kill(_status(run_dir)["ranks"][0]["pid"], signal.SIGKILL)
    wait_until(lambda: _status(run_dir)["state"] == "restarting", of=process)
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert code == 0 and "stopped by SIGTERM" in output, output
    assert len(_starts(run_dir)) == 1, "no learner trained any more"
    assert read_metrics(run_dir)[-1]["global_step"] <= load_latest(run_dir / "checkpoints").step


def test_a_stop_that_finds_the_learner_dead_ends_as_a_restart_would(launch: Launch, tmp_path: Path) -> None:
    """The driver is asked before it can know; what was not saved was lost by the death, not by the stop."""
    run_dir = tmp_path / "run"
    process = _begin(launch, run_dir, "--checkpoint.interval-s", "0.5")
    wait_until(lambda: _learns(run_dir, 0), of=process)
    os.kill(_status(run_dir)["ranks"][0]["pid"], signal.SIGKILL)
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert code == 0 and "failed, and is not started anew, stopped by SIGTERM" in output, output
    assert len(_starts(run_dir)) == 1 and _status(run_dir)["state"] == "done"
    assert read_metrics(run_dir)[-1]["global_step"] <= load_latest(run_dir / "checkpoints").step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stop_while_ray_starts_is_one(
    launch: Launch, tmp_path: Path, temporary: Path, number: signal.Signals
) -> None:
    """The run that was asked for begins, and is saved before its first update: it can go on."""
    run_dir = tmp_path / "run"
    process = _begin(launch, run_dir, OMP_NUM_THREADS="2")  # with threads that take what this one blocks
    wait_until(lambda: any(temporary.glob("evertrace-ray-*/session_*/logs")), of=process)
    process.send_signal(number)
    code, output = ended(process)
    assert code == 0 and f"stopped by {number.name}: " in output, output
    assert load_latest(run_dir / "checkpoints").step < 1000 and _status(run_dir)["state"] == "done"


def test_the_second_interrupt_ends_everything_at_once(
    launch: Launch, tmp_path: Path, temporary: Path
) -> None:
    """While its actors start, or in a batch that takes long to collect. Every process ends; the folder of the
    session is removed by the next one, as after a kill."""
    run_dir = tmp_path / "run"
    process = _begin(launch, run_dir, "--unroll-length", "10000000")
    wait_until(lambda: newest(run_dir / "checkpoints") is not None, of=process)

    def interrupted() -> bool:
        process.send_signal(signal.SIGINT)
        return process.poll() is not None

    wait_until(interrupted)
    assert ended(process)[0] == 130
    wait_until(lambda: not any(left.startswith("process") for left in leavings(temporary)))
    remove_abandoned(temporary)
