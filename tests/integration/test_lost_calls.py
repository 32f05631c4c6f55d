"""A network that loses and delays what goes between the processes: no actor is lost for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli import ROOT, Launch, ended, read_metrics

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("nothing_left")]

CALL = "CoreWorkerService.grpc_client.PushTask"
"""What carries a call to an actor, and its answer back."""


def _lossy(lost: str, percent: int, times: int) -> dict[str, str]:
    """The environment of processes of which each loses calls; `lost`: req (the call), resp (its answer)."""
    failures = {"num_failures": times, f"{lost}_failure_prob": percent}
    return {"RAY_testing_rpc_failure": json.dumps({CALL: failures})}


@pytest.mark.parametrize(("lost", "percent", "times"), [("req", 100, 6), ("resp", 100, 6), ("resp", 40, 20)])
def test_lost_calls_cost_no_actor(temporary: Path, lost: str, percent: int, times: int) -> None:
    """Where all are lost, those of the start are: where it lives, that it may begin, its first rollouts."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.actors.fleet.lossy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(temporary)} | _lossy(lost, percent, times),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["restarts"] == 0 and told["lives"] == 2 and told["in order"], told
    assert told["lost"] >= 2, told
    assert (told["gaps"] > 0) is (lost == "resp"), "what was not heard was not done, or was, and is missing"
    assert done.stdout.count("was lost on the way, and is made again: the actor lives") == 1


def test_a_run_through_a_slow_network_that_loses_calls_goes_on(launch: Launch, tmp_path: Path) -> None:
    """Every call and answer is 50 to 500 ms late, and one in twenty is lost."""
    run_dir = tmp_path / "run"
    late = ",".join(
        f"CoreWorkerService.{side}.PushTask=50000:500000" for side in ("grpc_server", "grpc_client")
    )
    process = launch.start(
        *(
            "train",
            "cartpole_rtrl",
            "--run-dir",
            str(run_dir),
            "--num-actors",
            "2",
            "--wandb.mode",
            "disabled",
        ),
        *("--total-steps", "60000", "--log-interval-s", "0.2", "--ray.rollouts-in-flight", "2"),
        RAY_testing_asio_delay_us=late,
        **_lossy("req", 5, -1),
    )
    code, output = ended(process)
    assert code == 0 and "total_steps = 60000 reached" in output, output
    rows = read_metrics(run_dir)
    assert rows[-1]["faults/actor_restarts"] == rows[-1]["faults/env_errors"] == 0, output
    assert rows[-1]["rtrl/trace_breaks"] == 0, output
    assert max(row["lag/policy_version_max"] for row in rows if "lag/policy_version_max" in row) < 20
