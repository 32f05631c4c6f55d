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


class Requests:
    def __init__(self) -> None:
        self.owner: dict[Any, int] = {}
        """Of each reference, oldest first: the actor that was asked."""
        self._finished: deque[Any] = deque()
        """Of these, what the last look found done, with all that its actor was asked before; less what was
        taken since."""

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
