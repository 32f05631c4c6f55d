"""A network that loses and delays what goes between the processes: no actor is lost for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.integration.cli import ROOT

pytestmark = pytest.mark.ray

CALL = "CoreWorkerService.grpc_client.PushTask"
"""What carries a call to an actor, and its answer back."""
LATE = f"CoreWorkerService.grpc_server.PushTask=50000:500000,{CALL}=50000:500000"
"""Microseconds, drawn anew for every call and every answer."""


@pytest.mark.parametrize(
    ("lost", "percent", "times", "late"),
    [("req", 100, 6, ""), ("resp", 100, 6, ""), ("resp", 20, 20, LATE)],
    ids=["calls of the start", "answers of the start", "answers at any time, all late"],
)
def test_lost_calls_cost_no_actor(lost: str, percent: int, times: int, late: str) -> None:
    """`lost`: req (the call), resp (its answer), by each process up to `times`."""
    failures = {CALL: {"num_failures": times, f"{lost}_failure_prob": percent}}
    done = subprocess.run(
        [sys.executable, "-m", "tests.actors.fleet.lossy", "yes" if lost == "resp" else "no"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"RAY_testing_rpc_failure": json.dumps(failures)}
        | ({"RAY_testing_asio_delay_us": late} if late else {}),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["done"], f"{told}\n{done.stdout}"
    assert told["restarts"] == 0 and told["lives"] == 2 and told["in order"], f"{told}\n{done.stdout}"
    assert (told["gaps"] > 0) is (lost == "resp"), "what was not heard was not done, or was, and is missing"
    assert told["unexplained"] == 0 and told["missing"] == told["gaps"] <= told["lost with calls"]
    assert done.stdout.count("was lost on the way, and is made again: the actor lives") == 1
