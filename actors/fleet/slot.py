"""One actor slot of a Ray fleet: what its present process is doing, and what that is known by.

BackingOff -> Placing -> Starting -> Working         each ends in BackingOff when it fails,
                  '--------'------------'-> Silent   which a call that was lost alone does not show: it goes
                                                     back to where it was if the actor turns out to live
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import ray
import ray.exceptions

from actors.fleet.nodes import Identity


def is_done(reference: Any) -> bool:
    """Whether Ray has the result of this call, or its error."""
    return bool(ray.wait([reference], timeout=0)[0])


@dataclass(slots=True)
class Life:
    """One process of an actor, and what was asked of it, in this order."""

    handle: Any
    identity: Any
    """Reference of its Identity, which is done once it has a CPU and a process."""
    start: Any
    """Reference that is done once its environments are up."""
    streams: range
    avoided: frozenset[str]
    """The nodes on which it must not be placed."""
    pending: deque[Any] = field(default_factory=deque)
    """References of the rollouts asked for, oldest first."""
    next_number: int = 0
    """That its next rollout will have, if none is lost."""


@dataclass(frozen=True, slots=True)
class BackingOff:
    """It has failed; a new life begins at `until` (monotonic seconds, as all times here)."""

    until: float


@dataclass(frozen=True, slots=True)
class Placing:
    life: Life
    since: float


@dataclass(frozen=True, slots=True)
class Starting:
    life: Life
    home: Identity
    since: float


@dataclass(frozen=True, slots=True)
class Working:
    life: Life
    home: Identity
    since: float
    """When its oldest unfinished request began."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A call was lost, with this error; Ray does not know yet whether the process or its node died."""

    life: Life
    since: float
    doubt: Exception
    verdict: Any
    """Reference of a call for its Identity: it is answered, or fails with the cause."""
    before: Placing | Starting | Working
    lost: int = 1
    """Calls that were lost since."""


State: TypeAlias = BackingOff | Placing | Starting | Working | Silent


@dataclass(slots=True)
class Slot:
    state: State
    told_waiting: bool = False
    replaced: bool = False
    """Where it is placed is told of one that was lost, and of one that was told to wait."""
    heard: range | None = None
    """The streams of its last rollout that was handed out."""


def aloud(state: State) -> BackingOff | Placing | Starting | Working:
    """The state of one that is silent before it was."""
    return state.before if isinstance(state, Silent) else state


def settled(state: State) -> Identity | None:
    """Where it lives, once that is known."""
    spoken = aloud(state)
    return spoken.home if isinstance(spoken, Starting | Working) else None


def home_of(life: Life) -> Identity | None:
    """Where a failed actor lived; None if it never got so far as to say."""
    if not is_done(life.identity):
        return None
    try:
        return ray.get(life.identity)
    except ray.exceptions.RayError:  # the failure itself, which is being reported
        return None


def known(slots: Sequence[Slot], actor_ids: Collection[int]) -> set[int]:
    """Of these those that carry what they carried when their last rollout was handed out: of the others the
    learner cannot know what it has."""
    found = set[int]()
    for actor_id in actor_ids:
        if actor_id < len(slots):
            state, heard = slots[actor_id].state, slots[actor_id].heard
            if isinstance(state, BackingOff) or state.life.streams == heard:
                found.add(actor_id)
    return found


def standing(slots: Sequence[Slot]) -> list[dict[str, Any]]:
    """Each actor as status.json has it."""
    rows: list[dict[str, Any]] = []
    for actor_id, slot in enumerate(list(slots)):
        home = settled(slot.state)
        pid, node = (None, None) if home is None else (home.pid, home.node_id)
        made = 0 if isinstance(slot.state, BackingOff) else slot.state.life.next_number
        row = {"actor": actor_id, "state": type(slot.state).__name__, "pid": pid, "node": node}
        rows.append(row | {"rollouts": made})
    return rows
