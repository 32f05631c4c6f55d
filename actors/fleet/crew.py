"""The actors of a Ray fleet, one slot each: begun, looked after, asked again, replaced.

The life of an actor (slot.py), and how long each part may take:

    placing    no CPU is free for it, or its process is being made: it waits, and training goes on with the
               others
    starting   it makes and resets its environments: `start_timeout_s`
    working    it owes rollouts: `rollout_timeout_s` each
    silent     a call of its was lost. It is asked whether it lives: then what was lost is asked for again,
               and its streams go on. A rollout that was lost leaves a gap in their numbers, which the learner
               sees

One that dies, raises or takes too long is replaced, after a while if that happens often, and elsewhere if
its node is to blame (placement.py).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import ray
import ray.exceptions

from actors.fleet.fleet import Fate, FleetCounters, FleetError
from actors.fleet.health import Health
from actors.fleet.nodes import Identity, UnfitNodeError, lost_node, node_name, report_of, room, versions
from actors.fleet.placement import Placement
from actors.fleet.requests import Requests
from actors.fleet.slot import BackingOff, Life, Placing, Silent, Slot, Starting, Working, home_of, is_done
from actors.fleet.waiting import Stalls, actors, say, waiting
from actors.rollout import Rollout
from actors.weights import WeightSource
from configs.layout import streams_of, with_actors
from configs.schema import Config

VERDICT_S = 60.0
"""So long Ray may take to find out that a node is dead."""
LOOK_AT_NODES_S = 5.0


class Crew:
    def __init__(
        self,
        config: Config,
        source: WeightSource,
        incarnations: Iterator[int],
        first_stream: int,
        worker_class: Any,
        counters: FleetCounters,
    ) -> None:
        self.config, self.limits = config, config.ray
        self._config_json = config.to_json()
        self._source, self._worker_class = source, worker_class
        self._versions = versions()
        self._new_lives, self._first = incarnations, first_stream
        self.health = Health(config.ray, config.num_actors)
        self.placement = Placement(config, self.health)
        self._next_look = 0.0
        self._counters = counters
        self.slots = [Slot(BackingOff(0.0)) for _ in range(config.num_actors)]
        self.requests = Requests()
        self._stalls = Stalls(config)
        self.lost_nodes: dict[str, float] = {}
        """By name: when the last actor was lost with it."""
        counters.actors = config.num_actors
        for actor_id in range(config.num_actors):
            self._start(actor_id)

    def _start(self, actor_id: int) -> None:
        placed = self._worker_class.options(**self.placement.options())
        handle = placed.remote(self._config_json, self._source, actor_id, next(self._new_lives), self._first)
        life = Life(
            handle,
            handle.identity.remote(),
            handle.start.remote(self._versions),
            streams_of(self.config, actor_id),
            self.placement.avoided,
        )
        self.slots[actor_id].state = Placing(life, time.monotonic())
        self._ask(actor_id, life)

    def _ask(self, actor_id: int, life: Life) -> None:
        self.requests.ask(actor_id, life, self.limits.rollouts_in_flight)

    def resize(self, number: int) -> None:
        """As many actors from now on, of the same streams. One that keeps its streams lives on."""
        before = len(self.slots)
        self.config = with_actors(self.config, number)
        self._config_json = self.config.to_json()
        self.health.resize(number)
        self._counters.actors = number
        for slot in self.slots[number:]:
            if not isinstance(slot.state, BackingOff):
                self._withdraw(slot.state.life, "let_go")
        del self.slots[number:]
        self.slots += [Slot(BackingOff(0.0)) for _ in range(number - before)]
        for actor_id, slot in enumerate(self.slots):
            state, streams = slot.state, streams_of(self.config, actor_id)
            if not isinstance(state, BackingOff) and state.life.streams != streams:
                self._withdraw(state.life, "let_go")
                slot.state, slot.told_waiting = BackingOff(0.0), False
        fewest, most = self.config.num_streams // number, self.config.env.num_envs
        slots = f"{most} env slots" if fewest == most else f"{fewest} to {most} env slots"
        say(f"scaled from {before} to {number} actors of {slots}; the same {self.config.num_streams} streams")
        self.look_after_all()

    def take(self, reference: Any) -> Rollout | None:
        """What was asked for by `reference`, which is done; None if it failed, and then that is seen to."""
        actor_id = self.requests.owner[reference]
        slot = self.slots[actor_id]
        assert not isinstance(slot.state, BackingOff), "what it was asked for is disowned"
        life = slot.state.life
        try:
            if isinstance(slot.state, Placing):  # it was faster than the next look
                self._settle(actor_id, life, ray.get(life.identity))
            if isinstance(slot.state, Starting):
                ray.get(life.start)  # its error is the cause of those after it
            rollout: Any = ray.get(reference)
        except ray.exceptions.RayError as error:
            self._fail(actor_id, life, error, reference)
            return None
        self.requests.over(life, reference, "arrived")
        self.requests.numbered(life, rollout.sequence_number)
        match slot.state:
            case Silent(before=Working(home=home) as before):
                working = dataclasses.replace(before, since=time.monotonic())
                slot.state = dataclasses.replace(slot.state, before=working)
            case Starting(home=home) | Working(home=home):
                slot.state = Working(life, home, time.monotonic())
                self._ask(actor_id, life)
            case _:
                raise AssertionError("of one that was lost before it worked all is disowned")
        self.health.delivered(actor_id, home.node_id)
        slot.heard = life.streams
        return rollout

    # --- looking after them --------------------------------------------------------------------

    def look_after_all(self) -> None:
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_AT_NODES_S
            self.placement.look(now)
        for actor_id in range(len(self.slots)):
            self._look_after(actor_id, now)
        late = [actor_id for actor_id in waiting(self.slots, now) if not self.slots[actor_id].told_waiting]
        if late:
            for actor_id in late:
                self.slots[actor_id].told_waiting = True
            say(f"{actors(late, 'wait')} for a place: {room()}. Training goes on with those that have one")
        self._stalls.look(self.slots, now)

    def _look_after(self, actor_id: int, now: float) -> None:
        slot = self.slots[actor_id]
        state = slot.state
        if isinstance(state, BackingOff):
            if now >= state.until:
                self._start(actor_id)
            return
        try:
            match state:
                case Placing(life, since) if is_done(life.identity):
                    self._settle(actor_id, life, ray.get(life.identity))
                case Placing(life, since) if life.avoided != self.placement.avoided:
                    self._withdraw(life, "let_go")
                    self._start(actor_id)
                    slot.state = dataclasses.replace(slot.state, since=since)  # it has waited since then
                case Starting(life, home, since) if is_done(life.start):
                    ray.get(life.start)
                    slot.state = Working(life, home, now)
                case Starting(life, _, since) if now - since > self.limits.start_timeout_s:
                    limit = f"ray.start_timeout_s = {self.limits.start_timeout_s:g}"
                    self._replace(
                        actor_id, life, TimeoutError(f"its environments were not up within {limit}")
                    )
                case Working(life, home, since) if now - since > self.limits.rollout_timeout_s:
                    if is_done(life.pending[0]):
                        slot.state = Working(life, home, now)
                    else:
                        limit = f"ray.rollout_timeout_s = {self.limits.rollout_timeout_s:g}"
                        self._replace(actor_id, life, TimeoutError(f"no rollout within {limit}"))
                case Silent(verdict=verdict) if is_done(verdict):
                    self._hear(actor_id, state, now)
                case Silent(life, since, doubt) if now - since > self._patience(state):
                    self._replace(actor_id, life, doubt)
                case _:
                    pass
        except ray.exceptions.RayError as error:
            self._fail(actor_id, state.life, error)

    def _patience(self, silent: Silent) -> float:
        working = isinstance(silent.before, Working)
        return self.limits.rollout_timeout_s if working else self.limits.start_timeout_s

    def _settle(self, actor_id: int, life: Life, home: Identity) -> None:
        slot = self.slots[actor_id]
        if slot.told_waiting or slot.replaced:
            say(f"actor {actor_id} is placed on {node_name(home.node_id)}")
        slot.told_waiting = slot.replaced = False
        slot.state = Starting(life, home, time.monotonic())

    def _fail(self, actor_id: int, life: Life, error: Exception, reference: Any = None) -> None:
        """`reference`: of the rollout that failed, if it was one. A lost call is no lost actor; while it is
        found out, the others go on."""
        if not isinstance(error, ray.exceptions.ActorUnavailableError):
            self._replace(actor_id, life, error)
            return
        slot = self.slots[actor_id]
        state = slot.state
        if isinstance(state, Working | Silent):  # its other rollouts may still come
            if reference is not None:
                self.requests.over(life, reference, "lost_calls")
        else:
            self.requests.all_over(life, "lost_calls")
        if isinstance(state, Silent):
            slot.state = dataclasses.replace(state, lost=state.lost + 1)
            return
        assert not isinstance(state, BackingOff)
        slot.state = Silent(life, time.monotonic(), error, life.handle.identity.remote(), state)

    def _hear(self, actor_id: int, silent: Silent, now: float) -> None:
        """Whether one that went silent lives: then it goes on, and what it was asked for in vain is asked
        again."""
        slot, life, before = self.slots[actor_id], silent.life, silent.before
        try:
            home: Any = ray.get(silent.verdict)
        except ray.exceptions.ActorUnavailableError:
            if now - silent.since < VERDICT_S:
                slot.state = dataclasses.replace(silent, verdict=life.handle.identity.remote())
            else:
                self._replace(actor_id, life, silent.doubt)
            return
        except ray.exceptions.RayError as error:
            self._replace(actor_id, life, error)
            return
        if not self._counters.lost_calls:
            say(
                f"a call to actor {actor_id} was lost on the way, and is made again: the actor lives. Told "
                "once; faults/lost_calls counts them"
            )
        self._counters.lost_calls += silent.lost
        if isinstance(before, Working):
            slot.state = before
        else:
            life.identity, life.start = silent.verdict, life.handle.start.remote(self._versions)
            self._settle(actor_id, life, home)
        self._ask(actor_id, life)

    def _withdraw(self, life: Life, fate: Fate) -> None:
        self.requests.all_over(life, fate)
        ray.kill(life.handle, no_restart=True)

    def _replace(self, actor_id: int, life: Life, error: Exception) -> None:
        self._counters.actor_restarts += 1
        slot, home, now = self.slots[actor_id], home_of(life), time.monotonic()
        self._withdraw(life, "lost_actors")
        slot.replaced, slot.state = True, BackingOff(now)
        lost = lost_node(error, home)
        if lost is not None:
            self.lost_nodes[node_name(lost)] = now
            say(f"actor {actor_id} was lost with its node {node_name(lost)}; a new incarnation starts")
        else:
            node_id = None if home is None else home.node_id
            unfit = isinstance(error, UnfitNodeError)
            delay = self.health.failed(actor_id, node_id, now, unfit=unfit)
            where = "" if node_id is None else f" on {node_name(node_id)}"
            self._counters.env_errors += isinstance(error, ray.exceptions.RayTaskError)
            report = report_of(error, home)
            if (reason := self.health.verdict(now)) is not None:
                raise FleetError(
                    f"{reason}; the last failure, of actor {actor_id}{where}, was:\n{report}"
                ) from error
            when = f" in {delay:g} s" if delay else ""
            say(f"actor {actor_id}{where} failed, a new incarnation starts{when}:\n{report}")
            slot.state = BackingOff(now + delay)
            self.placement.look(now)
        self._look_after(actor_id, now)

    def lives(self) -> list[Life]:
        states = [slot.state for slot in self.slots]
        return [state.life for state in states if not isinstance(state, BackingOff)]

    def unrolls(self) -> dict[str, int]:
        """Fleet says of what."""
        owners = self.requests.owner.values()
        under_way = sum(len(streams_of(self.config, actor_id)) for actor_id in owners)
        return {**self.requests.unrolls, "under_way": under_way}

    def close(self) -> None:
        for life in self.lives():
            ray.kill(life.handle, no_restart=True)
