"""Faults of docs/faults.md that meet the actors of a fleet, on real Ray."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator

import pytest

from actors.fleet.cluster import ray_session
from configs.schema import RayConfig
from tests.actors.fleet.fleets import lives, running, small, take, take_until
from tests.integration.cli import PATIENCE_S

pytestmark = pytest.mark.ray
STORE_MIB = 120


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_session(RayConfig(object_store_mib=STORE_MIB), num_cpus=2):
        yield


def test_all_actors_killed_at_once_come_back(capfd: pytest.CaptureFixture[str]) -> None:
    with running(small(stall_report_s=2.0)) as fleet:
        before = take(fleet, 4)
        while {rollout.actor_id for rollout in before} != {0, 1}:
            before += take(fleet, 1)
        pids = fleet.worker_pids()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        before += take_until(fleet, lambda: fleet.counters.actor_restarts == 2)
        after = take(fleet, 1)
        while {rollout.actor_id for rollout in after} != {0, 1}:
            after += take(fleet, 1)
        assert not set(fleet.worker_pids()) & set(pids)
        assert fleet.counters.actor_restarts == 2 and fleet.counters.env_errors == 0
    numbers = lives(before + after)
    assert len(numbers) == 4, "each lived twice"
    assert all(found == list(range(len(found))) for found in numbers.values()), "nothing is half there"


@pytest.mark.parametrize(("in_flight", "fits"), [(2, True), (8, False)])
def test_a_small_object_store_fills_no_disk(in_flight: int, fits: bool) -> None:
    """Rollouts of 7 MB of two actors that make them at once, for a learner that takes none for a while. Ray
    writes to disk what its store has no room for, from 96 of its 120 MB on: not the 4 that are asked for
    beside the 8 that were taken last, which a busy Ray may not have let go of yet; but 16."""
    import ray
    from ray._private.internal_api import memory_summary

    from benchmarks.fleet.simulated import Shape, config_of, simulated_fleet

    shape = Shape(20, 50, (84, 84))
    config = config_of(2, shape, batch_size=50)
    config = dataclasses.replace(config, ray=RayConfig(rollouts_in_flight=in_flight))
    fleet = simulated_fleet(config, shape)
    try:
        for _ in range(5):
            take(fleet, 4)
            asked = list(fleet._crew.requests.owner)
            done, _ = ray.wait(asked, num_returns=len(asked), timeout=PATIENCE_S)
            assert len(done) == len(asked)
        address = ray.get_runtime_context().gcs_address
        assert ("Spilled" not in memory_summary(address, stats_only=True)) is fits
    finally:
        fleet.close()
