"""Another number of actors while a fleet works: by call, by order, and as the cluster has room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.fleet.cluster import ray_session
from actors.rollout import Rollout
from configs.orders import Order, write_order
from configs.schema import Config, ConfigError, RayConfig
from tests.actors.fleet.fleets import live_workers, running, small, take, take_until

pytestmark = pytest.mark.ray
STREAMS = 6


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_session(RayConfig(object_store_mib=100), num_cpus=2):
        yield


def _carried(rollout: Rollout) -> range:
    return range(rollout.first_stream, rollout.first_stream + rollout.num_streams)


def _newest(rollouts: list[Rollout]) -> list[int]:
    """The streams of the newest rollout of each actor."""
    newest = {rollout.actor_id: rollout for rollout in rollouts}
    return sorted(stream for rollout in newest.values() for stream in _carried(rollout))


def _until_carried_by(fleet: Any, number: int) -> list[Rollout]:
    """Rollouts until those of `number` actors carry every stream once."""
    taken: list[Rollout] = []

    def all_come() -> bool:
        last = taken[-number:]
        return len({rollout.actor_id for rollout in last}) == number and _newest(last) == list(range(STREAMS))

    while not all_come():
        taken += take(fleet, 1)
    return taken


def _config(actors: int, **ray: Any) -> Config:
    return small(actors=actors, streams=STREAMS, **ray)


def test_one_actor_becomes_two_and_one_again_of_the_same_streams(capfd: pytest.CaptureFixture[str]) -> None:
    with running(_config(1)) as fleet:
        before = _until_carried_by(fleet, 1)
        fleet.resize(2)
        during = _until_carried_by(fleet, 2)
        fleet.resize(2)
        again = _until_carried_by(fleet, 2)
        take_until(fleet, lambda: len(live_workers()) == 2)
        fleet.resize(1)
        after = _until_carried_by(fleet, 1)
        take_until(fleet, lambda: len(live_workers()) == 1)
        assert fleet.counters.actor_restarts == 0 and fleet.counters.actors == 1
        assert fleet.unrolls()["let_go"] > 0 == fleet.unrolls()["lost_actors"]
        with pytest.raises(ConfigError, match="num_actors = 7: there are num_streams = 6"):
            fleet.resize(7)
    lives = [{r.incarnation for r in part} for part in (before, during, again, after)]
    assert lives[1].issuperset(lives[2]), "to the number that there is nothing is changed"
    assert not lives[0] & lives[1] and not lives[1] & lives[3], "who carries other streams lives anew"
    for rollout in (*before, *during, *after):
        rollout.validate()
    said = capfd.readouterr().out
    assert "scaled from 1 to 2 actors of 3 env slots; the same 6 streams" in said


def test_an_actor_that_keeps_its_streams_lives_on() -> None:
    """Of three streams the first of two actors carries one, and so does the first of three."""
    with running(small(actors=2, streams=3)) as fleet:
        take(fleet, 4)
        first, second = fleet.worker_pids()
        fleet.resize(3)
        take_until(fleet, lambda: second not in live_workers())
        while _carried(take(fleet, 1)[0]) not in (
            range(1, 2),
            range(2, 3),
        ):  # of one of two there is room for
            pass
        assert first in live_workers()
        assert 0 in {take(fleet, 1)[0].actor_id for _ in range(20)} and fleet.counters.actor_restarts == 0


def test_who_carries_other_streams_is_not_skipped_for_what_it_carried_before() -> None:
    """A learner that has all of the old actor 0 in hand needs what the new one brings."""
    with running(_config(1)) as fleet:
        _until_carried_by(fleet, 1)
        assert fleet.next_rollout(0.2, skip={0}) is None
        fleet.resize(2)
        rollout = None
        while rollout is None or rollout.actor_id != 0:
            rollout = fleet.next_rollout(1.0, skip={0})
        assert _carried(rollout) == range(3)
        for _ in range(5):  # it has been told of once, and is skipped like any other now
            rollout = fleet.next_rollout(0.2, skip={0})
            assert rollout is None or rollout.actor_id == 1


def test_orders_are_obeyed_as_far_as_there_is_room(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").touch()
    said = ""

    def told(words: str) -> bool:
        nonlocal said
        said += capfd.readouterr().out
        return words in said

    with running(_config(1)) as fleet:
        fleet.obey(tmp_path)
        take(fleet, 2)
        write_order(tmp_path, Order(2))
        _until_carried_by(fleet, 2)
        write_order(tmp_path, Order(3))
        take_until(fleet, lambda: told("not scaled to 3 actors yet: there is room for 2"))
        write_order(tmp_path, Order(9))
        take_until(
            fleet, lambda: told("not scaled to 9 actors: the run's streams can be carried by 6 at most")
        )
        (tmp_path / "control.json").write_text("{}")
        take_until(fleet, lambda: told("control.json is no order"))
        write_order(tmp_path, Order(1))
        _until_carried_by(fleet, 1)
        assert fleet.counters.actors == 1 and fleet.counters.actor_restarts == 0
    assert said.count("not scaled to 3 actors yet") == 1


def test_a_fleet_that_follows_takes_the_room_that_there_is() -> None:
    with running(_config(1, follow_cluster=True, settle_s=1.0)) as fleet:
        _until_carried_by(fleet, 1)
        _until_carried_by(fleet, 2)
        assert fleet.counters.actors == 2
        take(fleet, 20)
        assert fleet.counters.actors == 2, "there is no room for more"
