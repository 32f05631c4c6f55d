"""A run of two learners through Ray: they share its streams, and die and go on together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from learner.records.checkpoint import load_latest, newest
from learner.records.dashboard import CONDITIONAL
from tests.integration.cli import Launch, ended, read_metrics, rows_logged, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("nothing_left")]

OF_SEVERAL = ("--runtime", "ray", "--num-learners", "2")
SIZES = ("--num-streams", "8", "--num-actors", "2", "--batch-size", "8", "--unroll-length", "5")
LIMITS = ("--checkpoint.interval-s", "0.5", "--ray.learner-timeout-s", "60", "--log-interval-s", "0.05")


def _status(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "status.json"
    return json.loads(path.read_text()) if path.exists() else {"state": None, "ranks": [], "actors": []}


def _starts(run_dir: Path) -> list[int]:
    return [json.loads(line)["global_step"] for line in (run_dir / "starts.jsonl").read_text().splitlines()]


def _works(run_dir: Path, restarts: int) -> bool:
    """Whether both have learned and saved since they were last started anew, and their actors are known."""
    if rows_logged(run_dir) < 3 or len(_starts(run_dir)) <= restarts:
        return False
    saved, status = newest(run_dir / "checkpoints"), _status(run_dir)
    known = all(process["pid"] for process in (*status["ranks"], *status["actors"]))
    learned = saved is not None and saved.name > f"step_{_starts(run_dir)[-1]:012d}"
    return learned and status["state"] == "training" and known and len(status["actors"]) == 2


def _told_by(process: subprocess.Popen[str]) -> str:
    """Ends the run: what it said, for a failure's message."""
    process.send_signal(signal.SIGTERM)
    return ended(process)[1]


def _open_to_others(pid: int) -> list[str]:
    found = psutil.Process(pid).net_connections("inet")
    ends = [f"{c.laddr.ip}:{c.laddr.port}" for c in found if c.status == psutil.CONN_LISTEN]
    return [end for end in ends if not end.removeprefix("::ffff:").startswith(("127.", "::1"))]


def test_two_learners_die_and_go_on_together_and_as_one(launch: Launch, tmp_path: Path) -> None:
    """Fault 8 in a sum, and 31; then a stop, and the same run with one learner."""
    run_dir = tmp_path / "run"
    words = ("cartpole_rtrl", "--run-dir", str(run_dir), "--wandb.mode", "disabled", *OF_SEVERAL, *SIZES)
    process = launch.start("train", *words, *LIMITS, "--total-steps", "1000000000")
    wait_until(lambda: (run_dir / "starts.jsonl").exists(), of=process)
    for restarts, number in enumerate((signal.SIGKILL, signal.SIGSTOP, None)):
        wait_until(lambda: len(_starts(run_dir)) > restarts, of=process)  # noqa: B023 it waits here
        wait_until(lambda: _works(run_dir, restarts), of=process)  # noqa: B023 it waits here
        status = _status(run_dir)
        assert len(status["ranks"]) == 2 and status["learner_restarts"] == restarts, _told_by(process)
        assert [(actor["rank"], actor["actor"]) for actor in status["actors"]] == [(0, 0), (1, 0)]
        pids = [process["pid"] for process in (*status["ranks"], *status["actors"])]
        assert len(set(pids)) == 4
        assert [open_ for pid in pids for open_ in _open_to_others(pid)] == []
        if number is not None:
            before = [psutil.Process(pid) for pid in pids]
            os.kill(status["ranks"][1]["pid"], number)
            wait_until(lambda: not any(one.is_running() for one in before), of=process)  # noqa: B023 it waits here
    code, output = launch("scale", str(run_dir), "--num-actors", "3")
    assert code == 2 and "num_actors = 3: num_learners = 2 take equal parts" in output, output
    code, output = launch("status", str(run_dir))
    assert code == 0 and "rank 1  pid" in output and "actor 0 of rank 1" in output, output
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert code == 0 and "stopped by SIGTERM" in output, output
    assert "2 learners, each with 1 of them, 4 streams and 4 columns" in output, output
    assert output.count("learner 1 failed, and all 2 go on from step_") == 2, output
    assert output.count("it has not moved for") == 1 and "has lost another one" not in output, output
    print("\n".join(line for line in output.splitlines() if "learns again" in line))
    rows = read_metrics(run_dir)
    assert rows[-1]["perf/actors"] == 2
    assert load_latest(run_dir / "checkpoints").step == rows[-1]["global_step"]
    assert rows[-1]["faults/learner_restarts"] == 2
    elsewhere = {name for name, words in CONDITIONAL.items() if words == OF_SEVERAL}
    assert elsewhere and elsewhere <= rows[-1].keys()
    assert all(row["unrolls/asked"] >= row["unrolls/arrived"] > 0 for row in rows)

    more = str(rows[-1]["global_step"] + 400)
    code, output = launch("train", "--resume", str(run_dir), "--num-learners", "1", "--total-steps", more)
    assert code == 0 and "new episodes begin, with traces of zero" in output, output
    assert load_latest(run_dir / "checkpoints").step >= int(more)
