"""The fleet on real Ray: workers that are killed, raise, abort, hang; back-pressure; no leftovers."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import torch

from actors.fleet.cluster import ray_session
from actors.fleet.fleet import FleetError
from actors.policy import Policy
from actors.rollout import Rollout
from configs.schema import RayConfig
from envs.make import env_spec
from learner.publish import RayPublisher
from tests.actors.fleet.fleets import live_workers, lives, running, small, take, take_until
from tests.integration.cli import PATIENCE_S

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


def _plan(fault_file: Path, fault: str) -> None:
    """Whole, also for envs that look just now."""
    written = fault_file.with_name("written")
    written.write_text(fault)
    written.rename(fault_file)


def test_rollouts_of_each_actor_come_whole_and_in_order_and_a_fast_one_waits(cluster: None) -> None:
    with running(small(rollouts_in_flight=2)) as fleet:
        rollouts = take(fleet, 4)
        while sum(r.actor_id == 1 for r in rollouts) < 3 or sum(r.actor_id == 0 for r in rollouts) < 3:
            rollouts += take(fleet, 1)
        assert sorted(live_workers()) == sorted(fleet.worker_pids()), "or what looks for leftovers is blind"
        names = [process.name() for process in psutil.Process().children(recursive=True)]
        assert not any(name.startswith("ray::IDLE") for name in names), "started ahead, for nobody"
        for _ in range(3):
            rollout = None
            while rollout is None:
                rollout = fleet.next_rollout(timeout_s=5.0, skip={0})
            assert rollout.actor_id == 1
            rollouts.append(rollout)
    found = lives(rollouts)
    assert {actor for actor, _ in found} == {0, 1} and len(found) == 2
    assert all(numbers == list(range(len(numbers))) for numbers in found.values())
    for rollout in rollouts:
        rollout.validate()


def test_a_killed_worker_comes_back_as_a_new_incarnation(
    cluster: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(small()) as fleet:
        before: list[Rollout] = []
        while {rollout.actor_id for rollout in before} != {0, 1}:  # both have lived
            before += take(fleet, 1)
        victim = fleet.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        after: list[Rollout] = []

        before += take_until(fleet, lambda: fleet.counters.actor_restarts == 1)
        fleet._next_care = float("inf")  # its first rollout comes before anybody has looked after it
        while not any(r.actor_id == 0 and r.sequence_number == 1 for r in after):
            after += take(fleet, 1)
        assert victim not in fleet.worker_pids()
        assert fleet.counters.actor_restarts == 1 and fleet.counters.env_errors == 0
        unrolls, width = fleet.unrolls(), before[0].num_streams
        assert unrolls["arrived"] == width * len(before + after)
        assert unrolls["lost_actors"] == unrolls["under_way"] / 2 == 2 * width, "two rollouts of each"
        assert unrolls["missing"] == unrolls["lost_calls"] == unrolls["let_go"] == 0
    assert "actor 0 is placed on" in capfd.readouterr().out
    found = lives(before + after)
    assert len([1 for actor, _ in found if actor == 0]) == 2, "actor 0 lived twice"
    assert len([1 for actor, _ in found if actor == 1]) == 1, "actor 1 was left alone"
    assert all(numbers == list(range(len(numbers))) for numbers in found.values())
    newborn = [r for r in after if r.actor_id == 0 and r.sequence_number == 0][-1]
    assert newborn.reset[0].all() and not newborn.initial_state[0].any()


@pytest.mark.parametrize("kinds", [("step", "nan", "exit"), ("reset", "shape", "abort")], ids=" ".join)
def test_a_worker_whose_env_fails_is_replaced_and_the_broken_rollout_is_lost(
    cluster: None, fault_file: Path, kinds: tuple[str, ...]
) -> None:
    fault_file.unlink(missing_ok=True)
    rollouts: list[Rollout] = []
    with running(small(FAULTY)) as fleet:
        for restarts, kind in enumerate(kinds, start=1):
            _plan(fault_file, f"{kind} {0 if kind == 'reset' else 33} 1")
            rollouts += take_until(fleet, lambda count=restarts: fleet.counters.actor_restarts == count)
            rollouts += take(fleet, 10)
            assert fleet.counters.env_errors == restarts - (kind == "abort"), kind
    for rollout in rollouts:
        rollout.validate()
    assert all(numbers == list(range(len(numbers))) for numbers in lives(rollouts).values())


def test_one_actor_that_always_fails_ends_nothing(
    cluster: None, fault_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is restarted ever later, and each failure is told."""
    fault_file.write_text("step 0 0")
    with running(small(FAULTY, max_consecutive_failures=2)) as fleet:
        take(fleet, 4)
        for restarts in range(1, 4):
            victim = fleet.worker_pids()[0]
            os.kill(victim, signal.SIGKILL)
            take_until(fleet, lambda count=restarts: fleet.counters.actor_restarts == count)
            take_until(fleet, lambda: len(fleet.worker_pids()) == 2)
        take(fleet, 4)
    told = [
        line for line in capfd.readouterr().out.splitlines() if " failed, a new incarnation starts" in line
    ]
    assert [line.partition("starts")[2] for line in told] == [":", " in 1 s:", " in 2 s:"]


def test_a_hanging_worker_is_replaced_after_the_time_limit(cluster: None, fault_file: Path) -> None:
    fault_file.write_text("hang 3 1")
    with running(small(FAULTY, rollout_timeout_s=8.0)) as fleet:
        take_until(fleet, lambda: fleet.counters.actor_restarts == 1)
        take(fleet, 4)
        assert fleet.counters.actor_restarts == 1


def test_an_actor_without_a_cpu_waits_while_the_others_go_on(
    cluster: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Three actors on two CPUs: for ever, if need be, and it is said once."""
    from actors.fleet.slot import Placing

    config = dataclasses.replace(small(), num_streams=6, num_actors=3)
    with running(config) as fleet:

        def placed() -> set[int]:
            states = [slot.state for slot in fleet._crew.slots]
            return {actor_id for actor_id, state in enumerate(states) if not isinstance(state, Placing)}

        take_until(fleet, lambda: len(placed()) == 2 and any(slot.told_waiting for slot in fleet._crew.slots))
        take(fleet, 100)
        assert fleet.counters.actor_restarts == 0
        (left_out,) = {0, 1, 2} - placed()
        told = [line for line in capfd.readouterr().out.splitlines() if f"{left_out} wait" in line]
        assert len(told) == 1 and "the cluster has 2 CPUs on 1 node, 0 of them free" in told[0]
        hurried = dataclasses.replace(config.ray, start_timeout_s=3.0)  # enough once all are up
        fleet._starving._limits = hurried
        expected = rf"no rollout for 3 s .*actor {left_out} waits for a place.*--num-actors"
        with pytest.raises(FleetError, match=expected):
            _starve(fleet, skip=placed())


def _starve(fleet: RayFleet, skip: set[int]) -> None:
    """Nothing is taken of those that have a CPU, as when a batch needs streams of the one that has none."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert fleet.next_rollout(timeout_s=0.5, skip=skip) is None


def test_actors_stop_working_when_nobody_takes_their_rollouts(cluster: None) -> None:
    with running(small(rollouts_in_flight=3)) as fleet:
        first = take(fleet, 1)
        time.sleep(3.0)  # long enough for hundreds of rollouts, if nothing held the actors back
        import ray

        finished, _ = ray.wait(list(fleet._crew.requests.owner), num_returns=6, timeout=PATIENCE_S)
        assert len(finished) == 6 == len(fleet._crew.requests.owner)
        assert len(lives(first + take(fleet, 6))) == 2


def test_weights_reach_the_workers_by_version(cluster: None) -> None:
    config = small(rollouts_in_flight=1)
    torch.manual_seed(0)
    policy = Policy(env_spec(config.env), config.policy)
    publisher = RayPublisher()
    publisher.publish(policy, 0)
    from actors.fleet.ray_fleet import RayFleet  # imports Ray, whose token `ray_session` sets before

    fleet = RayFleet(config, publisher.source)
    try:
        assert {r.policy_version_max for r in take(fleet, 2)} == {0}
        with torch.no_grad():
            policy.policy_head.bias.add_(torch.arange(3) * 100.0)
        publisher.publish(policy, 17)
        late = take(fleet, 8)[-2:]
    finally:
        fleet.close()
        publisher.close()
    assert all(r.policy_version_min == r.policy_version_max == 17 for r in late)
    assert all((r.action == 2).all() for r in late), "the new weights always take the last action"
