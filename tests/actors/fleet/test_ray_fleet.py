"""The fleet on real Ray: workers that are killed, raise, abort, hang; back-pressure; no leftovers."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch

from actors.fleet.cluster import ray_session
from actors.fleet.fleet import FleetError
from actors.policy import Policy
from actors.rollout import Rollout
from configs.presets import preset
from configs.schema import Config, RayConfig
from envs.make import env_spec
from learner.publish import RayPublisher
from tests.integration.cli import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from actors.fleet.ray_fleet import RayFleet

pytestmark = pytest.mark.ray
FAULTY = "tests.faulty_env:Faulty-v0"


@pytest.fixture(scope="module")
def fault_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("fault") / "fault"
    os.environ["EVERTRACE_FAULT"] = str(path)
    yield path
    del os.environ["EVERTRACE_FAULT"]


@pytest.fixture(scope="module")
def cluster(fault_file: Path) -> Iterator[None]:
    with ray_session(RayConfig(object_store_mib=100), num_cpus=2):
        yield


def _config(env_id: str = "counting/7", **ray: Any) -> Config:
    base = preset("cartpole_rtrl")
    return dataclasses.replace(
        base,
        env=dataclasses.replace(base.env, id=env_id, num_envs=2),
        num_streams=4,
        num_actors=2,
        batch_size=4,
        unroll_length=5,
        ray=RayConfig(object_store_mib=100, **ray),
    )


def _make_fleet(config: Config, publisher: RayPublisher) -> RayFleet:
    from actors.fleet.ray_fleet import RayFleet  # imports Ray, whose token `ray_session` sets before

    return RayFleet(config, publisher.source)


@contextmanager
def _fleet(config: Config) -> Iterator[RayFleet]:
    torch.manual_seed(0)
    publisher = RayPublisher()
    publisher.publish(Policy(env_spec(config.env), config.policy), 0)
    fleet = _make_fleet(config, publisher)
    try:
        yield fleet
    finally:
        fleet.close()
        publisher.close()
        # Ray kills in its own time, and a worker that still lives would take the next test's fault.
        wait_until(lambda: not _live_workers())


def _live_workers() -> list[int]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE and process.name().startswith("ray::RolloutWo"):
                found.append(process.pid)
    return found


def test_live_workers_are_seen(cluster: None) -> None:
    with _fleet(_config()) as fleet:
        _take(fleet, 4)
        up = sorted(fleet.worker_pids())  # waits for both
        assert sorted(_live_workers()) == up


def _take(fleet: RayFleet, count: int, timeout_s: float = PATIENCE_S) -> list[Rollout]:
    taken: list[Rollout] = []
    deadline = time.monotonic() + timeout_s
    while len(taken) < count and time.monotonic() < deadline:
        rollout = fleet.next_rollout(timeout_s=1.0)
        if rollout is not None:
            taken.append(rollout)
    assert len(taken) == count, f"{len(taken)} of {count} rollouts within {timeout_s} s"
    return taken


def _take_until(fleet: RayFleet, done: Callable[[], bool], timeout_s: float = PATIENCE_S) -> list[Rollout]:
    taken: list[Rollout] = []
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"it did not happen within {timeout_s} s"
        rollout = fleet.next_rollout(timeout_s=1.0)
        taken += [] if rollout is None else [rollout]
    return taken


def _sequences(rollouts: list[Rollout]) -> dict[tuple[int, int], list[int]]:
    lives: dict[tuple[int, int], list[int]] = {}
    for rollout in rollouts:
        lives.setdefault((rollout.actor_id, rollout.incarnation), []).append(rollout.sequence_number)
    return lives


def test_rollouts_of_each_actor_come_whole_and_in_order(cluster: None) -> None:
    with _fleet(_config()) as fleet:
        rollouts = _take(fleet, 4)
        while sum(r.actor_id == 1 for r in rollouts) < 3 or sum(r.actor_id == 0 for r in rollouts) < 3:
            rollouts += _take(fleet, 1)
    lives = _sequences(rollouts)
    assert {actor for actor, _ in lives} == {0, 1} and len(lives) == 2
    assert all(numbers == list(range(len(numbers))) for numbers in lives.values())
    for rollout in rollouts:
        rollout.validate()


def test_a_killed_worker_comes_back_as_a_new_incarnation(
    cluster: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with _fleet(_config()) as fleet:
        before: list[Rollout] = []
        while {rollout.actor_id for rollout in before} != {0, 1}:  # both have lived
            before += _take(fleet, 1)
        victim = fleet.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        after: list[Rollout] = []

        before += _take_until(fleet, lambda: fleet.counters.actor_restarts == 1)
        fleet._next_care = float("inf")  # its first rollout comes before anybody has looked after it
        while not any(r.actor_id == 0 and r.sequence_number == 1 for r in after):
            after += _take(fleet, 1)
        assert victim not in fleet.worker_pids()
        assert fleet.counters.actor_restarts == 1 and fleet.counters.env_errors == 0
    assert "actor 0 is placed on" in capfd.readouterr().out
    lives = _sequences(before + after)
    assert len([1 for actor, _ in lives if actor == 0]) == 2, "actor 0 lived twice"
    assert len([1 for actor, _ in lives if actor == 1]) == 1, "actor 1 was left alone"
    assert all(numbers == list(range(len(numbers))) for numbers in lives.values())
    newborn = [r for r in after if r.actor_id == 0 and r.sequence_number == 0][-1]
    assert newborn.reset[0].all() and not newborn.initial_state[0].any()


@pytest.mark.parametrize("kind", ["step", "reset", "nan", "shape", "exit", "abort"])
def test_a_worker_whose_env_fails_is_replaced_and_the_broken_rollout_is_lost(
    cluster: None, fault_file: Path, kind: str
) -> None:
    fault_file.write_text(f"{kind} {0 if kind == 'reset' else 33} 1")
    with _fleet(_config(FAULTY)) as fleet:
        rollouts = _take_until(fleet, lambda: fleet.counters.actor_restarts == 1) + _take(fleet, 10)
        assert fleet.counters.env_errors == (0 if kind == "abort" else 1)
    for rollout in rollouts:
        rollout.validate()
    assert all(numbers == list(range(len(numbers))) for numbers in _sequences(rollouts).values())


def test_an_env_that_always_fails_stops_the_run_with_its_own_error(cluster: None, fault_file: Path) -> None:
    fault_file.write_text("step 0 1000")
    with _fleet(_config(FAULTY, max_consecutive_failures=2)) as fleet:
        with pytest.raises(FleetError, match="every actor failed 2 times in a row") as error:
            _take(fleet, 1)
        assert "the emulator broke in step" in str(error.value)


def test_one_actor_that_always_fails_ends_nothing(
    cluster: None, fault_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is restarted ever later, and each failure is told."""
    fault_file.write_text("step 0 0")
    with _fleet(_config(FAULTY, max_consecutive_failures=2)) as fleet:
        _take(fleet, 4)
        for restarts in range(1, 4):
            victim = fleet.worker_pids()[0]
            os.kill(victim, signal.SIGKILL)
            _take_until(fleet, lambda count=restarts: fleet.counters.actor_restarts == count)
            _take_until(fleet, lambda: len(fleet.worker_pids()) == 2)
        _take(fleet, 4)
    told = [
        line for line in capfd.readouterr().out.splitlines() if " failed, a new incarnation starts" in line
    ]
    assert [line.partition("starts")[2] for line in told] == [":", " in 1 s:", " in 2 s:"]


def test_a_hanging_worker_is_replaced_after_the_time_limit(cluster: None, fault_file: Path) -> None:
    fault_file.write_text("hang 3 1")
    with _fleet(_config(FAULTY, rollout_timeout_s=8.0)) as fleet:
        _take_until(fleet, lambda: fleet.counters.actor_restarts == 1)
        _take(fleet, 4)
        assert fleet.counters.actor_restarts == 1


def test_an_actor_without_a_cpu_waits_while_the_others_go_on(
    cluster: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Three actors on two CPUs: for ever, if need be, and it is said once."""
    from actors.fleet.slot import Placing

    config = dataclasses.replace(_config(), num_streams=6, num_actors=3)
    with _fleet(config) as fleet:

        def placed() -> set[int]:
            states = [slot.state for slot in fleet._slots]
            return {actor_id for actor_id, state in enumerate(states) if not isinstance(state, Placing)}

        _take_until(fleet, lambda: len(placed()) == 2 and any(slot.told_waiting for slot in fleet._slots))
        _take(fleet, 100)
        assert fleet.counters.actor_restarts == 0
        (left_out,) = {0, 1, 2} - placed()
        told = [line for line in capfd.readouterr().out.splitlines() if f"{left_out} wait" in line]
        assert len(told) == 1 and "the cluster has 2 CPUs on 1 node, 0 of them free" in told[0]
        fleet._limits = dataclasses.replace(fleet._limits, start_timeout_s=3.0)  # enough once all are up
        expected = rf"no rollout for 3 s .*actor {left_out} waits for a place.*--num-actors"
        with pytest.raises(FleetError, match=expected):
            _starve(fleet, skip=placed())


def _starve(fleet: RayFleet, skip: set[int]) -> None:
    """Nothing is taken of those that have a CPU, as when a batch needs streams of the one that has none."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert fleet.next_rollout(timeout_s=0.5, skip=skip) is None


def test_actors_stop_working_when_nobody_takes_their_rollouts(cluster: None) -> None:
    with _fleet(_config(rollouts_in_flight=3)) as fleet:
        first = _take(fleet, 1)
        time.sleep(3.0)  # long enough for hundreds of rollouts, if nothing held the actors back
        import ray

        finished, _ = ray.wait(list(fleet._requests.owner), num_returns=6, timeout=PATIENCE_S)
        assert len(finished) == 6 == len(fleet._requests.owner)
        assert len(_sequences(first + _take(fleet, 6))) == 2


def test_weights_reach_the_workers_by_version(cluster: None) -> None:
    config = _config(rollouts_in_flight=1)
    torch.manual_seed(0)
    policy = Policy(env_spec(config.env), config.policy)
    publisher = RayPublisher()
    publisher.publish(policy, 0)
    fleet = _make_fleet(config, publisher)
    try:
        assert {r.policy_version_max for r in _take(fleet, 2)} == {0}
        with torch.no_grad():
            policy.policy_head.bias.add_(torch.arange(3) * 100.0)
        publisher.publish(policy, 17)
        late = _take(fleet, 8)[-2:]
    finally:
        fleet.close()
        publisher.close()
    assert all(r.policy_version_min == r.policy_version_max == 17 for r in late)
    assert all((r.action == 2).all() for r in late), "the new weights always take the last action"


def test_a_fast_actor_waits_for_a_slow_one(cluster: None) -> None:
    with _fleet(_config(rollouts_in_flight=2)) as fleet:
        first = _take(fleet, 1)[0].actor_id
        other = 1 - first
        for _ in range(3):
            rollout = None
            while rollout is None:
                rollout = fleet.next_rollout(timeout_s=5.0, skip={first})
            assert rollout.actor_id == other
