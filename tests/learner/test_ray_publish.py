"""Publishing through real Ray: a full object store, a weight board that dies."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
import torch

from actors.fleet.cluster import ray_session
from actors.policy import Policy
from actors.rollout import Rollout
from configs.presets import preset
from configs.schema import RayConfig
from envs.make import env_spec
from learner import publish
from learner.publish import PublishError, RayPublisher
from tests.integration.cli import living, wait_until

pytestmark = pytest.mark.ray
NO_SPILLING = "RAY_local_fs_capacity_threshold"
"""Ray's bound on how full a disk may be before it refuses objects that do not fit into memory."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ[NO_SPILLING] = "0.0"
    try:
        with ray_session(RayConfig(object_store_mib=100), num_cpus=2):
            yield
    finally:
        del os.environ[NO_SPILLING]


def _board() -> psutil.Process:
    """The only one, once those of the tests before have ended."""
    wait_until(lambda: len(living("ray::Board")) == 1)
    return living("ray::Board")[0]


def _weights(publisher: RayPublisher) -> np.ndarray:
    snapshot = publisher.source.fetch(-1)
    assert snapshot is not None
    return snapshot.arrays["weight"]


def test_fetched_weights_lie_in_the_object_store_and_are_not_copied(cluster: None) -> None:
    publisher, network = RayPublisher(), torch.nn.Linear(100, 500)
    publisher.publish(network, 0)
    publisher.flush()
    weights = _weights(publisher)
    np.testing.assert_array_equal(weights, network.weight.detach().numpy())
    assert not weights.flags.owndata and not weights.flags.writeable
    publisher.close()


def test_a_slow_board_is_not_waited_for_and_gets_the_newest_weights_in_the_end(cluster: None) -> None:
    publisher, network = RayPublisher(), torch.nn.Linear(2, 1)
    board = _board()
    board.suspend()
    try:
        for version in range(5):  # the first is under way, the last waits
            torch.nn.init.constant_(network.weight, version)
            publisher.publish(network, version)
        assert (publisher.skipped, publisher.errors) == (3, 0)
    finally:
        board.resume()
    wait_until(lambda: publisher.poll() or publisher._next is None)
    publisher.flush()
    assert (_weights(publisher) == 4).all() and (publisher.skipped, publisher.errors) == (3, 0)
    publisher.close()


def test_a_ray_that_takes_nothing_is_not_waited_for(cluster: None) -> None:
    """As one that is being ended, while the learner has a checkpoint to write."""
    publisher, network = RayPublisher(), torch.nn.Linear(100, 500)
    publisher.publish(network, 0)
    publisher.flush()
    (raylet,) = (p for p in psutil.Process().children(recursive=True) if p.name() == "raylet")
    raylet.suspend()
    try:
        for version in (1, 2, 3):
            publisher.publish(network, version)
        assert publisher.skipped == 1 and publisher.errors == 0
    finally:
        raylet.resume()
    publisher.flush()
    snapshot = publisher.source.fetch(-1)
    assert snapshot is not None and snapshot.version == 3
    publisher.close()


def test_a_board_that_stays_silent_is_told_and_ends_only_the_fourth_time(
    cluster: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, network = RayPublisher(), torch.nn.Linear(2, 1)
    monkeypatch.setattr(publish, "PUBLISH_TIMEOUT_S", 0.2)
    board = _board()
    board.suspend()
    try:
        for version in range(3):
            publisher.publish(network, version)
            publisher.flush()
            said = capsys.readouterr().out
            assert f"weights of update {version} were not published: the board of weights is silent" in said
        publisher.publish(network, 3)
        with pytest.raises(PublishError, match="could not be published 4 times: the board"):
            publisher.flush()
        assert publisher.errors == 4
    finally:
        board.resume()
    publisher.close()


def test_a_full_object_store_is_told_and_ends_only_the_fourth_time(
    cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray
    import ray.exceptions

    publisher, network = RayPublisher(), torch.nn.Linear(1000, 5000)
    publisher.publish(network, 0)
    filling = [ray.put(np.zeros(10_000_000, np.uint8)) for _ in range(7)]
    for version in (1, 2):
        publisher.publish(network, version)
        publisher.flush()
        assert f"weights of update {version} were not published" in capsys.readouterr().out

    def has_room() -> bool:
        try:
            ray.put(np.zeros(21_000_000, np.uint8))
        except ray.exceptions.OutOfDiskError:
            return False
        return True

    filling.clear()
    wait_until(has_room)
    publisher.publish(network, 3)
    publisher.flush()
    snapshot = publisher.source.fetch(0)
    assert snapshot is not None and snapshot.version == 3
    del snapshot
    wait_until(has_room)
    filling += [ray.put(np.zeros(10_000_000, np.uint8)) for _ in range(7)]
    for version in (4, 5, 6):
        publisher.publish(network, version)
        publisher.flush()
    publisher.publish(network, 7)
    with pytest.raises(PublishError, match=r"could not be published 4 times: .*full"):
        publisher.flush()
    assert publisher.errors == 6 and publisher.skipped == 0
    publisher.close()
    filling.clear()
    wait_until(has_room)


def test_actors_that_start_while_the_board_has_lost_everything_have_weights(cluster: None) -> None:
    from actors.fleet.ray_fleet import RayFleet  # imports Ray, whose token `ray_session` sets before

    base = preset("cartpole_rtrl")
    env = dataclasses.replace(base.env, id="counting/7", num_envs=2)
    config = dataclasses.replace(base, env=env, num_streams=4, num_actors=2, batch_size=4, unroll_length=5)
    policy, publisher = Policy(env_spec(env), config.policy), RayPublisher()
    publisher.publish(policy, 3)
    fleet = RayFleet(config, publisher.source)

    def take(count: int) -> list[Rollout]:
        taken: list[Rollout] = []

        def enough() -> bool:
            rollout = fleet.next_rollout(timeout_s=1.0)
            taken.extend([] if rollout is None else [rollout])
            return len(taken) >= count

        wait_until(enough)
        return taken

    try:
        take(4)
        workers = fleet.worker_pids()
        board = _board()
        board.send_signal(signal.SIGKILL)
        board.wait()
        take(6)
        assert fleet.counters.actor_restarts == 0, "those at work notice nothing"
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        newborn: set[int] = set()
        while newborn != {0, 1}:
            newborn |= {rollout.actor_id for rollout in take(1) if fleet.counters.actor_restarts == 2}
        assert fleet.counters.actor_restarts == 2 and fleet.counters.env_errors == 0
        publisher.publish(policy, 4)
        wait_until(lambda: take(1)[0].policy_version_min == 4)
    finally:
        fleet.close()
        publisher.close()
