"""One actor slot of a Ray fleet: its present process, and what is known of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.exceptions

from actors.fleet.nodes import Identity


def is_done(reference: Any) -> bool:
    """Whether Ray has the result of this call, or its error."""
    return bool(ray.wait([reference], timeout=0)[0])


@dataclass(slots=True)
class Slot:
    """One actor slot of the fleet: its present Ray handle and what it owes."""

    handle: Any
    placing: Any = None
    """Reference of its Identity, which is done once it has a CPU and a process."""
    identity: Identity | None = None
    starting: Any = None
    """Reference that is done once its environments are up; None from then on."""
    pending: deque[Any] = field(default_factory=deque)
    """References of the rollouts asked for, oldest first."""
    waiting_since: float = 0.0
    """When the present part of its life, or the oldest unfinished request, began (monotonic seconds)."""
    doubt: Exception | None = None
    """The connection broke, with this error; Ray does not know yet whether the process or its node died."""
    verdict: Any = None
    """Reference of a call that then fails with the cause."""
    failures: int = 0
    """In a row, without a rollout between."""
    told_waiting: bool = False
    replaced: bool = False
    """Where it is placed is told of one that was lost, and of one that was told to wait."""

    @property
    def home(self) -> Identity | None:
        """Where a failed actor lived; None if it never got so far as to say."""
        if self.identity is None and is_done(self.placing):
            try:
                return ray.get(self.placing)
            except ray.exceptions.RayError:  # the failure itself, which is being reported
                return None
        return self.identity
