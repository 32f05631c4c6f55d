"""Training on a cluster of two Ray nodes: it spreads, outlives a node, refuses strangers, runs as a job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from learner.records.checkpoint import load_latest
from tests.cluster.ray_nodes import ROOT, Process, RayNodes
from tests.integration.cli import read_metrics, rows_logged, wait_until

pytestmark = pytest.mark.ray

DYING = (
    *("--env.id", "dying_env:Dying-v0"),
    *("--num-actors", "2", "--env.num-envs", "4", "--batch-size", "4"),
)
"""A batch can be made of one actor's streams: the other one may be away for a while."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    cluster = RayNodes()
    try:
        cluster.add()
        yield cluster
    finally:
        cluster.close()


def _workers(node: Process) -> list[psutil.Process]:
    """The actors that live on a node, by the names that Ray gives their processes."""
    family = psutil.Process(node.process.pid).children(recursive=True)
    return [process for process in family if "ray::RolloutWorker" in " ".join(process.cmdline())]


def test_a_job_that_is_submitted_from_elsewhere_trains_to_its_end(nodes: RayNodes, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    submit = ("ray", "job", "submit", "--address", nodes.dashboard, "--working-dir", str(ROOT), "--")
    train = (
        "python",
        "launch.py",
        "train",
        "cartpole_rtrl",
        "--total-steps",
        "4000",
        "--wandb.mode",
        "disabled",
    )
    job = nodes.run(*submit, *train, "--run-dir", str(run_dir), cwd=tmp_path)
    code, output = job.finished()
    assert code == 0 and "total_steps = 4000 reached" in output, output
    assert load_latest(run_dir / "checkpoints").step == read_metrics(run_dir)[-1]["global_step"] >= 4000


@pytest.mark.parametrize("token", ["wrong", "missing"])
def test_without_the_token_nobody_gets_in(nodes: RayNodes, tmp_path: Path, token: str) -> None:
    environment = nodes.environment() | {"HOME": str(tmp_path)}
    del environment["RAY_AUTH_TOKEN_PATH"]
    if token == "wrong":
        environment["RAY_AUTH_TOKEN"] = "0" * 64
    run = nodes.train("--run-dir", str(tmp_path / "run"), environment=environment)
    submit = ("ray", "job", "submit", "--address", nodes.dashboard, "--", "echo", "a stranger was let in")
    job = nodes.run(*submit, environment=environment, cwd=tmp_path)
    code, output = run.finished()
    assert code == 2 and "launch.py train: ray.address" in output and "Traceback" not in output, output
    assert ("in RAY_AUTH_TOKEN?" if token == "wrong" else "set RAY_AUTH_TOKEN_PATH") in output
    code, output = job.finished()
    assert code != 0 and "let in\n" not in output
    assert "Authentication" in output


def test_a_node_that_lacks_the_environment_is_named_before_anything_runs(
    nodes: RayNodes, tmp_path: Path
) -> None:
    bare = nodes.add(bare=True)
    try:
        code, output = nodes.train("--run-dir", str(tmp_path / "run"), *DYING).finished()
    finally:
        bare.end()
        nodes.nodes.remove(bare)
    assert code == 2 and "actors cannot run on every node" in output, output
    named = [line for line in output.splitlines() if "dying_env" in line and ", node " in line]
    assert len(named) == 1, output
    assert not (tmp_path / "run").exists()


def test_a_run_outlives_a_dead_actor_a_lost_node_a_bad_one_and_a_stranger_and_tells_of_each(
    nodes: RayNodes, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    run = nodes.train(
        *("--run-dir", str(run_dir), "--total-steps", "100000000", "--log-interval-s", "0.2", *DYING)
    )

    def steps() -> int:
        return read_metrics(run_dir)[-1]["global_step"]

    def restarts() -> int:
        return read_metrics(run_dir)[-1]["faults/actor_restarts"]

    def learned(more: int = 1000) -> None:
        before = steps()
        wait_until(lambda: steps() > before + more, of=run.process)

    def told(words: str) -> None:
        try:
            wait_until(lambda: words in run.output, of=run.process)
        except AssertionError as error:
            raise AssertionError(f"it did not tell {words!r}: {run.output}") from error

    wait_until(lambda: run.process.poll() is not None or rows_logged(run_dir) > 1)
    second = nodes.nodes[-1]

    def spread() -> bool:
        return [len(_workers(node)) for node in (nodes.head, nodes.nodes[-1])] == [1, 1]

    wait_until(spread)

    written = nodes.order.with_name("written")  # whole before it is found
    written.write_text("the emulator says goodbye")
    written.rename(nodes.order)
    wait_until(lambda: restarts() == 1)
    assert "failed, a new incarnation starts" in run.output, run.output
    assert "Worker exit type: SYSTEM_ERROR" in run.output
    assert "    the emulator says goodbye" in run.output, run.output
    assert "dying_env.py" in run.output, run.output
    told("is placed on")
    learned()
    wait_until(spread)

    second.end()
    told("was lost with its node")
    learned()
    told("waits for a place: the cluster has 1 CPU on 1 node, 0 of them free")
    learned()

    bad = nodes.add(bad=True)
    told("is avoided: 3 actors in a row failed there. It is tried again in 600 s")
    assert run.output.count("RuntimeError: this node breaks its environments") >= 3
    learned()
    bare = nodes.add(bare=True)
    told("is avoided: actors of this run cannot live there")
    assert "No module named 'dying_env'" in run.output
    learned()
    nodes.add()
    wait_until(spread, of=run.process)
    learned()
    assert restarts() == 2 + 3 + 1
    assert not _workers(bad) and not _workers(bare)
    run.process.send_signal(signal.SIGTERM)
    code, output = run.finished()
    assert code == 0 and "stopped by SIGTERM" in output, output
    assert load_latest(run_dir / "checkpoints").step == steps()
