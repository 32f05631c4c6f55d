"""How many actors carry a run's streams while nodes come and go: as ordered, or as the cluster has room for.

Streams and batches stay what they are: another number of actors carries the same streams, cut anew. So
whatever changes its streams begins a new life, with new episodes, and that is not done for every passing
change: room must have stayed the same for `ray.settle_s`. Where actors lost their place, and batches are
filled without them, they are waited for ten times as long: a node that is back by then costs nothing. So are
those for which nodes have a place: their processes may just be slow to start.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from actors.fleet.nodes import actor_nodes, places_for, room_for
from actors.fleet.placement import resources
from actors.fleet.slot import BackingOff, Placing, Slot, settled
from actors.fleet.waiting import say, waiting
from configs.error import ConfigError
from configs.layout import most_actors
from configs.orders import Order, read_order
from configs.schema import Config

LONGER = 10
"""Times `ray.settle_s` for actors without a place, where batches are filled all the same."""


class Size:
    def __init__(self, config: Config, parts: int = 1) -> None:
        """`parts`: into which the run is cut, of which this is one. Orders are for all of them."""
        self._parts = parts
        self._settle_s, self._most = config.ray.settle_s, most_actors(config)
        self._resources = resources(config)
        self._follows = config.ray.follow_cluster
        self._run_dir: Path | None = None
        self._order: Order | None = None
        self._told = ""
        """What was said last of an order, which is read again and again."""
        self._number, self._since = config.num_actors, 0.0
        """What there would be room for, and since when."""
        self._no_more: frozenset[str] | None = None
        """Nodes that had no place for more; None: not tried yet."""

    def obey(self, run_dir: Path) -> None:
        """From now on orders count that lie there."""
        self._run_dir = run_dir

    def wanted(self, slots: Sequence[Slot], starving: bool, now: float) -> int | None:
        """Another number of actors than there are; None to leave it."""
        self._read()
        homes = [None if (home := settled(slot.state)) is None else home.node_id for slot in slots]
        order = None if self._order is None else self._order.num_actors
        if order is not None:
            return self._ordered(order // self._parts, len(slots), homes)
        return self._followed(slots, homes, starving, now) if self._follows else None

    def _read(self) -> None:
        try:
            order = None if self._run_dir is None else read_order(self._run_dir)
        except ConfigError as error:
            self._tell(str(error))
            return
        if order is not None and order != self._order:
            self._order, self._follows = order, order.num_actors is None

    def _tell(self, message: str) -> None:
        if message != self._told:
            say(message)
        self._told = message

    def _ordered(self, order: int, present: int, homes: list[str | None]) -> int | None:
        if order == present:
            return None
        if order > self._most:
            self._tell(
                f"not scaled to {order} actors: the run's streams can be carried by {self._most} at most"
            )
            return None
        free = room_for(homes, **self._resources)
        if order > present + free:
            self._tell(
                f"not scaled to {order} actors yet: there is room for {present + free}. Done as soon as "
                "there is more"
            )
            return None
        self._told = ""
        return order

    def _followed(
        self, slots: Sequence[Slot], homes: list[str | None], starving: bool, now: float
    ) -> int | None:
        present, late = len(slots), waiting(slots, now)
        nodes = frozenset(actor_nodes(self._resources["num_cpus"], self._resources["num_gpus"]))
        patience = self._settle_s
        if late:
            number = max(1, present - len(late))
            placeless = places_for(homes, **self._resources) < len(late)
            patience *= 1 if starving and placeless else LONGER
        elif any(isinstance(slot.state, Placing | BackingOff) for slot in slots) or nodes == self._no_more:
            number = present
        else:
            room = room_for(homes, **self._resources) // self._parts  # the others take theirs
            number = min(self._most, present + room)
        if number != self._number:
            self._number, self._since = number, now
        if number == present or now - self._since < patience:
            return None
        self._no_more = nodes if late else None
        return number
