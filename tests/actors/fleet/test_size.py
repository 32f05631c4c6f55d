"""The rules by which the number of actors follows a cluster and its orders, on a clock of the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.fleet.cluster import set_environment
from configs.orders import Order, write_order
from tests.actors.fleet.fleets import small

pytestmark = pytest.mark.ray
"""They import Ray, and start none."""


class _Room:
    """A cluster of the test's own making, for rules on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment()
        from actors.fleet import elastic

        self.free, self.places, self.nodes = 0, 0, ["a"]
        monkeypatch.setattr(elastic, "room_for", lambda homes, **resources: self.free)
        monkeypatch.setattr(elastic, "places_for", lambda homes, **resources: self.places)
        monkeypatch.setattr(elastic, "actor_nodes", lambda *resources: self.nodes)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> _Room:
    return _Room(monkeypatch)


def _slots(working: int, placing_since: tuple[float, ...] = ()) -> Any:
    from actors.fleet.nodes import Identity
    from actors.fleet.slot import Life, Placing, Slot, Working

    life = Life(None, None, None, range(1), frozenset())
    slots = [Slot(Working(life, Identity("a", 1, ()), 0.0)) for _ in range(working)]
    return slots + [Slot(Placing(life, since)) for since in placing_since]


def _size(actors: int = 4, parts: int = 1) -> Any:
    from actors.fleet import elastic

    return elastic.Size(small(actors=actors, streams=12, follow_cluster=True, settle_s=30.0), parts)


def test_of_several_learners_each_takes_its_part_of_room_and_orders(room: _Room, tmp_path: Path) -> None:
    size, slots = _size(parts=2), _slots(4)
    room.free = 5
    assert size.wanted(slots, False, 0.0) is None
    assert size.wanted(slots, False, 31.0) == 6
    (tmp_path / "config.json").touch()
    write_order(tmp_path, Order(10))
    size.obey(tmp_path)
    assert size.wanted(slots, False, 32.0) == 5


def test_room_that_stays_is_taken_and_room_that_passes_is_not(room: _Room) -> None:
    size, slots = _size(), _slots(4)
    assert size.wanted(slots, False, 0.0) is None
    room.free = 2
    assert size.wanted(slots, False, 10.0) is None
    room.free = 3
    assert size.wanted(slots, False, 39.0) is None, "it changed"
    assert size.wanted(slots, False, 68.0) is None
    assert size.wanted(slots, False, 69.0) == 7
    room.free = 100
    assert size.wanted(slots, False, 70.0) is None
    assert size.wanted(slots, False, 100.0) == 12, "an actor a stream at most"


def test_actors_that_lost_their_place_are_waited_for_unless_the_learner_starves(room: _Room) -> None:
    slots = _slots(2, (80.0, 80.0))
    for starving, patience in ((False, 300.0), (True, 30.0)):
        size = _size()
        assert size.wanted(_slots(4), starving, 70.0) is None
        assert size.wanted(slots, starving, 85.0) is None, "placing takes a while"
        assert size.wanted(slots, starving, 100.0) is None
        assert size.wanted(slots, starving, 99.0 + patience) is None
        assert size.wanted(slots, starving, 100.0 + patience) == 2
    room.free, slots = 2, _slots(2)
    assert size.wanted(slots, False, 200.0) is None
    assert size.wanted(slots, False, 300.0) is None, "room that took nobody is no room"
    room.nodes = ["a", "b"]
    assert size.wanted(slots, False, 301.0) is None
    assert size.wanted(slots, False, 331.0) == 4, "until a node comes"


def test_actors_whose_processes_are_slow_to_start_have_a_place(room: _Room) -> None:
    size, slots = _size(), _slots(2, placing_since=(0.0, 0.0))
    room.places = 2
    assert size.wanted(slots, True, 20.0) is None
    assert size.wanted(slots, True, 310.0) is None, "though the learner starves"
    assert size.wanted(slots, True, 320.0) == 2, "something else has taken it"
    size, room.places = _size(), 1
    assert size.wanted(slots, True, 20.0) is None
    assert size.wanted(slots, True, 50.0) == 2, "there is a place for one of the two"


def test_one_that_is_failing_or_being_placed_is_no_sign_of_room(room: _Room) -> None:
    size = _size()
    room.free = 5
    assert size.wanted(_slots(3, (99.0,)), False, 100.0) is None
    assert size.wanted(_slots(4), False, 101.0) is None
    assert size.wanted(_slots(4), False, 130.0) is None
    assert size.wanted(_slots(4), False, 131.0) == 9


def test_an_order_waits_for_room_and_ends_following(room: _Room, tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    size = _size()
    size.obey(tmp_path)
    write_order(tmp_path, Order(6))
    room.free = 1
    assert size.wanted(_slots(4), False, 0.0) is None
    assert size.wanted(_slots(4), False, 100.0) is None, "room for one more is not taken"
    room.free = 2
    assert size.wanted(_slots(4), False, 101.0) == 6
    assert size.wanted(_slots(6), False, 102.0) is None
    room.free = 0
    write_order(tmp_path, Order(2))
    assert size.wanted(_slots(6), False, 103.0) == 2
