"""A run on a cluster whose nodes come and go: its actors follow, its learner goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learner.records.checkpoint import load_latest
from tests.cluster.ray_nodes import ROOT, RayNodes
from tests.integration.cli import PATIENCE_S, read_metrics, rows_logged, wait_until

pytestmark = pytest.mark.ray


@pytest.fixture
def nodes() -> Iterator[RayNodes]:
    cluster = RayNodes()
    try:
        yield cluster
    finally:
        cluster.close()


def _scale(run_dir: Path, number: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "launch.py", "scale", str(run_dir), "--num-actors", number],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _working(run_dir: Path) -> int:
    status = json.loads((run_dir / "status.json").read_text())
    return sum(actor["state"] == "Working" for actor in status["actors"])


def test_one_actor_becomes_sixteen_and_one_again_as_nodes_and_orders_come_and_go(
    nodes: RayNodes, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    run = nodes.train(
        *("--run-dir", str(run_dir), "--total-steps", "100000000", "--log-interval-s", "0.2"),
        *("--num-actors", "auto", "--ray.settle-s", "10", "--ray.stall-report-s", "3"),
        *("--env.id", "dying_env:Dying-v0", "--unroll-length", "16"),  # whose steps take no core
    )

    def last(name: str) -> Any:
        return read_metrics(run_dir)[-1][name]

    def learned_with(actors: int, more: int = 1024) -> None:
        """The learner goes on, with so many actors, all of which work."""
        try:
            wait_until(lambda: last("perf/actors") == actors, of=run.process)
            wait_until(lambda: _working(run_dir) == actors, of=run.process)
            before = last("global_step")
            wait_until(lambda: last("global_step") > before + more, of=run.process)
        except AssertionError as error:
            raise AssertionError(f"{error}: {run.output}") from error
        assert last("perf/actors") == actors, run.output

    wait_until(lambda: run.process.poll() is not None or rows_logged(run_dir) > 1)
    learned_with(1)
    came = [nodes.add(2)]
    learned_with(3)
    assert "to 3 actors of 10 to 11 env slots; the same 32 streams" in run.output
    code, said = _scale(run_dir, "2")
    assert code == 0 and json.loads(said)["ordered"] == "num_actors = 2", said
    learned_with(2)
    assert _scale(run_dir, "auto")[0] == 0
    learned_with(3)
    code, said = _scale(run_dir, "33")
    assert code == 2 and "num_actors = 33: there are num_streams = 32" in said, said
    came.append(nodes.add(13))
    learned_with(16)
    assert "to 16 actors of 2 env slots; the same 32 streams" in run.output
    for node, left in zip(reversed(came), (3, 1), strict=True):
        node.end()
        learned_with(left)
    assert "was lost with its node" in run.output
    assert "the learner starves: no rollout for" in run.output and "lost: " in run.output, run.output
    steps = [row["global_step"] for row in read_metrics(run_dir)]
    assert steps == sorted(steps) and last("faults/env_errors") == 0
    run.process.send_signal(signal.SIGTERM)
    code, output = run.finished()
    assert code == 0 and "stopped by SIGTERM" in output, output
    assert output.count("32 streams: ") == 1, "one learner all the time"
    assert load_latest(run_dir / "checkpoints").step == last("global_step")
    code, said = _scale(run_dir, "2")
    assert code == 2 and f"nothing trains in {run_dir}" in said, said
    code, said = _scale(tmp_path, "2")
    assert code == 2 and "is not a run directory" in said, said
