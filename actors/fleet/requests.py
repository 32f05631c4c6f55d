"""The rollouts that actors were asked for, and which of them are done.

One look at all of them costs as much as there is of them, so whatever it finds is handed out before the next.
An actor's are handed out in the order in which they were made: an answer may overtake the one before it, and
waits for that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from typing import Any

import ray

from actors.fleet.fleet import Fate, no_unrolls
from actors.fleet.slot import Life


class Requests:
    def __init__(self) -> None:
        self.owner: dict[Any, int] = {}
        """Of each reference, oldest first: the actor that was asked."""
        self.unrolls = no_unrolls()
        """What became of them, but for those that are under way."""
        self._finished: deque[Any] = deque()
        """Of these, what the last look found done, with all that its actor was asked before; less what was
        taken since."""

    def ask(self, actor_id: int, life: Life, most: int) -> None:
        """For so many rollouts at a time."""
        while len(life.pending) < most:
            reference = life.handle.collect.remote()
            life.pending.append(reference)
            self.owner[reference] = actor_id
            self.unrolls["asked"] += len(life.streams)

    def over(self, life: Life, reference: Any, fate: Fate) -> None:
        """It is not waited for any more."""
        del self.owner[reference]
        life.pending.remove(reference)
        self.unrolls[fate] += len(life.streams)

    def all_over(self, life: Life, fate: Fate) -> None:
        for reference in tuple(life.pending):
            self.over(life, reference, fate)

    def numbered(self, life: Life, sequence_number: int) -> None:
        """A rollout of this number has arrived. Those before it that have not never will."""
        self.unrolls["missing"] += (sequence_number - life.next_number) * len(life.streams)
        life.next_number = sequence_number + 1

    @property
    def ready(self) -> int:
        """Known to be done, next in turn, and not taken."""
        return len(self._finished)

    def next_finished(self, skip: Collection[int], timeout_s: float) -> Any | None:
        """The oldest request that is done, of actors not in `skip`; None where there is none in time."""
        found = self._known(skip)
        if found is None:
            self._look(skip, timeout_s)
            found = self._known(skip)
        return found

    def _known(self, skip: Collection[int]) -> Any | None:
        for reference in tuple(self._finished):
            owner = self.owner.get(reference)
            if owner in skip:
                continue
            self._finished.remove(reference)
            if owner is not None:  # else its actor has failed since
                return reference
        return None

    def _look(self, skip: Collection[int], timeout_s: float) -> None:
        wanted = {reference: actor_id for reference, actor_id in self.owner.items() if actor_id not in skip}
        if not wanted:  # every actor that may be asked has gone silent
            time.sleep(timeout_s)
            return
        done = set(ray.wait(list(wanted), num_returns=len(wanted), timeout=0)[0])
        if not self._in_turn(wanted, done):
            oldest = {actor_id: reference for reference, actor_id in reversed(wanted.items())}
            done |= set(ray.wait(list(oldest.values()), num_returns=1, timeout=timeout_s)[0])
        self._finished = self._in_turn(wanted, done)

    @staticmethod
    def _in_turn(wanted: dict[Any, int], done: set[Any]) -> deque[Any]:
        """Of those done: before which nothing that the same actor was asked is missing."""
        found, held_up = deque[Any](), set[int]()
        for reference, actor_id in wanted.items():
            if reference not in done:
                held_up.add(actor_id)
            elif actor_id not in held_up:
                found.append(reference)
        return found
