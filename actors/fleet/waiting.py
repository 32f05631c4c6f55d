"""What is told of actors that keep the learner waiting: who stalls, and why nothing comes from anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions

from actors.fleet.fleet import FleetCounters, FleetError
from actors.fleet.nodes import LOG_TIMEOUT_S, Identity, doings_on, node_name, room
from actors.fleet.slot import BackingOff, Life, Placing, Slot, State, Working, aloud, is_done
from configs.schema import Config, RayConfig

NOTICE_S = 10.0
"""After so long without a CPU an actor waits for one, and that is told."""


def actors(actor_ids: Sequence[int], verb: str) -> str:
    numbers = ", ".join(map(str, actor_ids))
    return f"actor {numbers} {verb}s" if len(actor_ids) == 1 else f"actors {numbers} {verb}"


def say(message: str) -> None:
    print(message, flush=True)


def waiting(slots: Sequence[Slot], now: float) -> list[int]:
    """The actors that have looked for a place for a while."""
    return [
        actor_id
        for actor_id, slot in enumerate(slots)
        if isinstance(slot.state, Placing) and now - slot.state.since > NOTICE_S
    ]


@dataclass(slots=True)
class _Stall:
    life: Life
    home: Identity
    since: float
    doings: Any
    """Reference of what its processes do, in words; None once that is told."""
    asked_at: float
    told: bool = False

    def lasts(self, state: State) -> bool:
        spoken = aloud(state)
        if not isinstance(spoken, Working) or spoken.life is not self.life or spoken.since != self.since:
            return False
        return not self.life.pending or not is_done(self.life.pending[0])


class Stalls:
    """Actors that owe a rollout for longer than `ray.stall_report_s`, each told once by name.

    One that comes back has twice the time that it took, next time: an environment that is slow by nature is
    not told of at every rollout.
    """

    def __init__(self, config: Config) -> None:
        self._limits, self._env_id = config.ray, config.env.id
        self._stalls: dict[int, _Stall] = {}
        self._patience: dict[int, float] = {}

    def look(self, slots: Sequence[Slot], now: float) -> None:
        for actor_id, slot in enumerate(slots):
            state, stall = slot.state, self._stalls.get(actor_id)
            if stall is not None and not stall.lasts(state):
                self._over(actor_id, stall, state, now)
            elif stall is not None and stall.doings is not None:
                self._tell(actor_id, stall, now)
            elif stall is None and isinstance(state, Working):
                patience = self._patience.get(actor_id, self._limits.stall_report_s)
                if now - state.since > patience and not is_done(state.life.pending[0]):
                    doings = doings_on(state.home)
                    self._stalls[actor_id] = _Stall(state.life, state.home, state.since, doings, now)

    def _tell(self, actor_id: int, stall: _Stall, now: float) -> None:
        """What its processes do is told with it, or later where its node takes long to say so: a busy one
        needs seconds for the process that looks."""
        known = is_done(stall.doings)
        if not known and (stall.told or now - stall.asked_at < LOG_TIMEOUT_S):
            return
        doings = "its node has not said yet what its processes do"
        if known:
            try:
                doings = ray.get(stall.doings)
            except ray.exceptions.RayError:
                doings = "its node does not say what its processes do"
            stall.doings = None
        if stall.told:
            say(f"actor {actor_id}: {doings}")
            return
        stall.told = True
        streams = stall.life.streams
        say(
            f"actor {actor_id} stalls on {node_name(stall.home.node_id)}: no rollout of the streams "
            f"{streams.start} to {streams.stop - 1} of {self._env_id} for {now - stall.since:.0f} s; {doings}"
            ". The others go on where they fill a batch; it is replaced after "
            f"{self._limits.rollout_timeout_s:g} s (ray.rollout_timeout_s)"
        )

    def _over(self, actor_id: int, stall: _Stall, state: State, now: float) -> None:
        del self._stalls[actor_id]
        self._patience.pop(actor_id, None)
        if isinstance(state, BackingOff) or state.life is not stall.life:
            return
        self._patience[actor_id] = 2 * (now - stall.since)
        if stall.told:
            say(f"actor {actor_id} goes on, after {now - stall.since:.0f} s")


class Starving:
    """Nothing came to a learner that asked. Told with the reason after `ray.stall_report_s`, and when it is
    over; the end of the run where it lasts while actors have no place, or keep failing."""

    def __init__(self, limits: RayConfig, counters: FleetCounters) -> None:
        self._limits, self._counters = limits, counters
        self._since: float | None = None
        self._before = 0.0
        """Seconds of earlier times."""
        self._hopeless_since: float | None = None

    def fed(self, now: float) -> None:
        if self._counters.starving:
            say(f"rollouts come again, after {now - (self._since or now):.0f} s")
            self._before, self._counters.starving = self._counters.starved_s, ""
        self._since = self._hopeless_since = None

    def unfed(
        self,
        slots: Sequence[Slot],
        failures: Mapping[int, int],
        lost_nodes: Mapping[str, float],
        now: float,
    ) -> None:
        """`failures`: of each actor, in a row. `lost_nodes`: by name, and since when.

        Raises FleetError when nothing has come for `ray.start_timeout_s` while actors wait for CPUs or fail.
        """
        self._since = self._since or now
        for_s = now - self._since
        if for_s > self._limits.stall_report_s:
            told, self._counters.starving = self._counters.starving, reasons(slots, lost_nodes, now)
            self._counters.starved_s = self._before + for_s
            if not told:
                say(f"the learner starves: no rollout for {for_s:.0f} s. {self._counters.starving}")
        late, limit = waiting(slots, now), self._limits.start_timeout_s
        failing = sorted(actor_id for actor_id, count in failures.items() if count > 1)
        self._hopeless_since = (self._hopeless_since or now) if late or failing else None
        if self._hopeless_since is not None and now - self._hopeless_since > limit:
            why = [f"{actors(late, 'wait')} for a place: {room()}"] if late else []
            why += [f"{actors(failing, 'fail')} again and again (told above)"] if failing else []
            raise FleetError(
                f"no rollout for {limit:g} s (ray.start_timeout_s), and {'; '.join(why)}. Add nodes, or ask "
                "for fewer with --num-actors"
            )


def reasons(slots: Sequence[Slot], lost_nodes: Mapping[str, float], now: float) -> str:
    """Why nothing comes, in words."""
    ids: dict[str, list[int]] = {}
    for actor_id, slot in enumerate(slots):
        match slot.state:
            case Working(life) if life.pending and is_done(life.pending[0]):
                kind = "ready"
            case state:
                kind = type(state).__name__
        ids.setdefault(kind, []).append(actor_id)

    def longest(kind: str) -> str:
        return f"for up to {max(now - _since(slots[actor_id], now) for actor_id in ids[kind]):.0f} s"

    found = {
        "Placing": lambda who: f"{actors(who, 'wait')} for a place or a process: {room()}",
        "Starting": lambda who: f"{actors(who, 'start')} {longest('Starting')}",
        "Working": lambda who: f"{actors(who, 'owe')} a rollout {longest('Working')}",
        "Silent": lambda who: f"{actors(who, 'answer')} no call {longest('Silent')}",
        "BackingOff": lambda who: f"{actors(who, 'fail')}, and will be started again",
    }
    why = [words(ids[kind]) for kind, words in found.items() if kind in ids]
    why += [f"lost: {name}, {now - when:.0f} s ago" for name, when in lost_nodes.items()]
    if "ready" in ids:
        why.append(f"the streams of {len(ids['ready'])} others wait for these")
    return "; ".join(why)


def _since(slot: Slot, now: float) -> float:
    return now if isinstance(slot.state, BackingOff) else slot.state.since
