"""A machine on which Ray's node is slower than the 30 s that Ray gives it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Ray's wait is made to see no node, and a clock that jumps, in its first attempts.
PROGRAM = """
import sys, time, types
import psutil
from actors.fleet import cluster
from actors.fleet.fleet import FleetError
from configs.schema import RayConfig

late, jumped = int(sys.argv[1]), [0.0]

def start(**options):
    import ray._private.node as node  # not before: Ray reads its token when it is imported
    services, time_of_day = node.ray._private.services, time.monotonic
    real = services.get_node

    def get_node(*arguments):
        global late
        if late <= 0:
            return real(*arguments)
        late, jumped[0] = late - 1, jumped[0] + 40.0
        raise RuntimeError("not there yet")

    services.get_node = get_node
    node.time = types.SimpleNamespace(**(vars(time) | {"monotonic": lambda: time_of_day() + jumped[0]}))
    begin(**options)

begin, cluster._start = cluster._start, start

def running(name):
    return len([c for c in psutil.Process().children(recursive=True) if name in c.name()])

try:
    with cluster.ray_session(RayConfig(), 1):
        print("up", running("gcs_server"), running("raylet"))
except FleetError as error:
    print("gave up:", error, running("gcs_server"), running("raylet"))
"""


@pytest.mark.ray
@pytest.mark.parametrize("late", [1, 99])
def test_a_node_that_is_late_is_started_again_and_at_last_given_up(late: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(late)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert "once more (1 of 3)" in lines[0], done.stdout + done.stderr
    if late == 1:
        assert lines[1:] == ["up 1 1"]
    else:
        assert lines[-1].startswith("gave up: Ray did not come up on this machine within 30 s, 3 times")
        assert lines[-1].endswith(" 0 0")
