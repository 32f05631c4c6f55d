"""The actors in Ray: asked for rollouts, looked after, replaced.

Back-pressure: an actor works on at most `rollouts_in_flight` requests, finished ones that nobody
took included, so a slow learner slows the actors instead of filling memory.

The life of an actor (slot.py), and how long each part may take:

    placing    no CPU is free for it, or its process is being made: it waits, and training goes on with the
               others
    starting   it makes and resets its environments: `start_timeout_s`
    working    it owes rollouts: `rollout_timeout_s` each

One that dies, raises or takes too long is replaced, after a while if that happens often, and elsewhere if
its node is to blame (placement.py). The run has failed when all fail too often (health.py), or when nothing
comes from any actor for `start_timeout_s` while some wait for a CPU or keep failing.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection
from typing import Any

import ray
import ray.exceptions
from numpy.typing import NDArray

from actors.fleet.fleet import FleetCounters, FleetError, incarnations
from actors.fleet.health import Health
from actors.fleet.nodes import Identity, UnfitNodeError, lost_node, node_name, report_of, room, versions
from actors.fleet.placement import Placement
from actors.fleet.requests import Requests
from actors.fleet.slot import BackingOff, Life, Placing, Silent, Slot, Starting, Working, home_of, is_done
from actors.fleet.worker import RolloutWorker
from actors.rollout import Rollout
from actors.weights import WeightSource
from configs.schema import Config

NOTICE_S = 10.0
"""After so long without a CPU it is told that an actor waits for one."""
VERDICT_S = 60.0
"""So long Ray may take to find out that a node is dead."""
LOOK_AT_NODES_S = 5.0
CARE_S = 0.5
"""Between two looks after all actors, while rollouts come."""


class RayFleet:
    """One Ray worker an actor. Ray must be initialised; `source` must be picklable."""

    def __init__(
        self, config: Config, source: WeightSource, *, start_step: int = 0, worker_class: Any = RolloutWorker
    ) -> None:
        """`worker_class`: what benchmarks put in the place of actors."""
        self._limits = config.ray
        self._config_json = config.to_json()
        self._source, self._worker_class = source, worker_class
        self._versions = versions()
        self._rng = incarnations(config.seed, start_step)
        self._health = Health(config.ray, config.num_actors)
        self._placement = Placement(config, self._health)
        self._next_look = 0.0
        self.counters = FleetCounters()
        self._slots = [Slot(BackingOff(0.0)) for _ in range(config.num_actors)]
        self._requests = Requests()
        self._next_care = 0.0
        self._starved_since: float | None = None
        for actor_id in range(config.num_actors):
            self._start(actor_id)

    def _start(self, actor_id: int) -> None:
        incarnation = int(self._rng.integers(2**63 - 1))
        placed = self._worker_class.options(**self._placement.options())
        handle = placed.remote(self._config_json, self._source, actor_id, incarnation)
        life = Life(
            handle, handle.identity.remote(), handle.start.remote(self._versions), self._placement.avoided
        )
        self._slots[actor_id].state = Placing(life, time.monotonic())
        for _ in range(self._limits.rollouts_in_flight):
            self._request(actor_id, life)

    def _request(self, actor_id: int, life: Life) -> None:
        reference = life.handle.collect.remote()
        life.pending.append(reference)
        self._requests.owner[reference] = actor_id

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        deadline = time.monotonic() + timeout_s
        while True:
            if time.monotonic() >= self._next_care:  # however many come: fast actors hide no hanging one
                self._look_after_all()
                self._next_care = time.monotonic() + CARE_S
            rest = max(0.0, min(deadline - time.monotonic(), CARE_S))
            reference = self._requests.next_finished(skip, rest)
            if reference is not None:
                self.counters.rollouts_ready = self._requests.ready
                rollout = self._take(reference)
                if rollout is not None:
                    self._starved_since = None
                    return rollout
            if time.monotonic() >= deadline:
                self._bear_starving()
                return None

    def _take(self, reference: Any) -> Rollout | None:
        actor_id = self._requests.owner[reference]
        slot = self._slots[actor_id]
        assert not isinstance(slot.state, BackingOff | Silent), "what it was asked for is disowned"
        life = slot.state.life
        try:
            if isinstance(slot.state, Placing):  # it was faster than the next look
                self._settle(actor_id, life, ray.get(life.identity))
            if isinstance(slot.state, Starting):
                ray.get(life.start)  # its error is the cause of those after it
            rollout: Any = ray.get(reference)
        except ray.exceptions.RayError as error:
            self._fail(actor_id, life, error)
            return None
        del self._requests.owner[reference]
        life.pending.remove(reference)
        assert isinstance(slot.state, Starting | Working)
        home = slot.state.home
        self._health.delivered(actor_id, home.node_id)
        slot.state = Working(life, home, time.monotonic())
        self._request(actor_id, life)
        return rollout

    # --- looking after them --------------------------------------------------------------------

    def _look_after_all(self) -> None:
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_AT_NODES_S
            self._placement.look(now)
        for actor_id in range(len(self._slots)):
            self._look_after(actor_id, now)
        late = [actor_id for actor_id in self._waiting(now) if not self._slots[actor_id].told_waiting]
        if late:
            for actor_id in late:
                self._slots[actor_id].told_waiting = True
            _say(f"{_actors(late, 'wait')} for a place: {room()}. Training goes on with those that have one")

    def _waiting(self, now: float) -> list[int]:
        """The actors that have looked for a place for a while."""
        return [
            actor_id
            for actor_id, slot in enumerate(self._slots)
            if isinstance(slot.state, Placing) and now - slot.state.since > NOTICE_S
        ]

    def _look_after(self, actor_id: int, now: float) -> None:
        slot = self._slots[actor_id]
        state = slot.state
        if isinstance(state, BackingOff):
            if now >= state.until:
                self._start(actor_id)
            return
        try:
            match state:
                case Placing(life, since) if is_done(life.identity):
                    self._settle(actor_id, life, ray.get(life.identity))
                case Placing(life, since) if life.avoided != self._placement.avoided:
                    self._withdraw(life)
                    self._start(actor_id)
                    slot.state = dataclasses.replace(slot.state, since=since)  # it has waited since then
                case Starting(life, home, since) if is_done(life.start):
                    ray.get(life.start)
                    slot.state = Working(life, home, now)
                case Starting(life, _, since) if now - since > self._limits.start_timeout_s:
                    limit = f"ray.start_timeout_s = {self._limits.start_timeout_s:g}"
                    self._replace(
                        actor_id, life, TimeoutError(f"its environments were not up within {limit}")
                    )
                case Working(life, home, since) if now - since > self._limits.rollout_timeout_s:
                    if is_done(life.pending[0]):
                        slot.state = Working(life, home, now)
                    else:
                        limit = f"ray.rollout_timeout_s = {self._limits.rollout_timeout_s:g}"
                        self._replace(actor_id, life, TimeoutError(f"no rollout within {limit}"))
                case Silent(verdict=verdict) if is_done(verdict):
                    self._hear(actor_id, state, now)
                case _:
                    pass
        except ray.exceptions.RayError as error:
            self._fail(actor_id, state.life, error)

    def _settle(self, actor_id: int, life: Life, home: Identity) -> None:
        slot = self._slots[actor_id]
        if slot.told_waiting or slot.replaced:
            _say(f"actor {actor_id} is placed on {node_name(home.node_id)}")
        slot.told_waiting = slot.replaced = False
        slot.state = Starting(life, home, time.monotonic())

    def _bear_starving(self) -> None:
        """Nothing came in time. Raises FleetError when that has lasted while actors wait for CPUs or fail."""
        now, limit = time.monotonic(), self._limits.start_timeout_s
        waiting = self._waiting(now)
        failing = sorted(actor_id for actor_id, count in self._health.in_a_row.items() if count > 1)
        self._starved_since = (self._starved_since or now) if waiting or failing else None
        if self._starved_since is not None and now - self._starved_since > limit:
            why = [f"{_actors(waiting, 'wait')} for a place: {room()}"] if waiting else []
            why += [f"{_actors(failing, 'fail')} again and again (told above)"] if failing else []
            raise FleetError(
                f"no rollout for {limit:g} s (ray.start_timeout_s), and {'; '.join(why)}. Add nodes, or ask "
                "for fewer with --num-actors"
            )

    def _fail(self, actor_id: int, life: Life, error: Exception) -> None:
        """Replaces an actor; one that went silent only when it is known why, while the others go on."""
        if isinstance(error, ray.exceptions.ActorUnavailableError):
            self._disown(life)
            verdict = life.handle.identity.remote()
            self._slots[actor_id].state = Silent(life, time.monotonic(), error, verdict)
        else:
            self._replace(actor_id, life, error)

    def _hear(self, actor_id: int, silent: Silent, now: float) -> None:
        """What Ray found out about one that went silent."""
        cause = silent.doubt
        try:
            ray.get(silent.verdict)  # it lives; but what it was asked for is lost
        except ray.exceptions.ActorUnavailableError:
            if now - silent.since < VERDICT_S:
                verdict = silent.life.handle.identity.remote()
                self._slots[actor_id].state = dataclasses.replace(silent, verdict=verdict)
                return
        except ray.exceptions.RayError as error:
            cause = error
        self._replace(actor_id, silent.life, cause)

    def _disown(self, life: Life) -> None:
        """Its unfinished rollouts are no longer waited for."""
        for reference in life.pending:
            del self._requests.owner[reference]
        life.pending.clear()

    def _withdraw(self, life: Life) -> None:
        self._disown(life)
        ray.kill(life.handle, no_restart=True)

    def _replace(self, actor_id: int, life: Life, error: Exception) -> None:
        self.counters.actor_restarts += 1
        slot, home, now = self._slots[actor_id], home_of(life), time.monotonic()
        self._withdraw(life)
        slot.replaced, slot.state = True, BackingOff(now)
        lost = lost_node(error, home)
        if lost is not None:
            _say(f"actor {actor_id} was lost with its node {node_name(lost)}; a new incarnation starts")
        else:
            node_id = None if home is None else home.node_id
            unfit = isinstance(error, UnfitNodeError)
            delay = self._health.failed(actor_id, node_id, now, unfit=unfit)
            where = "" if node_id is None else f" on {node_name(node_id)}"
            self.counters.env_errors += isinstance(error, ray.exceptions.RayTaskError)
            report = report_of(error, home)
            if (reason := self._health.verdict(now)) is not None:
                raise FleetError(
                    f"{reason}; the last failure, of actor {actor_id}{where}, was:\n{report}"
                ) from error
            when = f" in {delay:g} s" if delay else ""
            _say(f"actor {actor_id}{where} failed, a new incarnation starts{when}:\n{report}")
            slot.state = BackingOff(now + delay)
            self._placement.look(now)
        self._look_after(actor_id, now)

    # --- the rest of the contract --------------------------------------------------------------

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that are up now, for diagnosis and fault tests."""
        return [found.pid for found in ray.get([life.identity for life in self._lives()])]

    def _lives(self) -> list[Life]:
        states = [slot.state for slot in self._slots]
        return [state.life for state in states if not isinstance(state, BackingOff)]

    def state_dict(self) -> dict[str, NDArray[Any]] | None:
        return None  # the streams live in other processes; a resumed run starts new incarnations

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        raise ValueError("a Ray fleet cannot take up streams; it starts new incarnations")

    def close(self) -> None:
        for life in self._lives():
            ray.kill(life.handle, no_restart=True)


def _actors(actor_ids: list[int], verb: str) -> str:
    numbers = ", ".join(map(str, actor_ids))
    return f"actor {numbers} {verb}s" if len(actor_ids) == 1 else f"actors {numbers} {verb}"


def _say(message: str) -> None:
    print(message, flush=True)
