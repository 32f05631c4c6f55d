"""The actors in Ray: asked for rollouts, looked after, replaced.

Back-pressure: an actor works on at most `rollouts_in_flight` requests, finished ones that nobody
took included, so a slow learner slows the actors instead of filling memory.

The life of an actor, and how long each part may take:

    placing    no CPU is free for it, or its process is being made: it waits, and training goes on with the
               others. Only when nothing comes from any actor for `start_timeout_s` does the run end.
    starting   it makes and resets its environments: `start_timeout_s`
    working    it owes rollouts: `rollout_timeout_s` each

One that dies, raises or takes too long is replaced. `max_consecutive_failures` in a row stop the run; to be
lost with a whole node is not counted as one.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import ray
import ray.exceptions
from numpy.typing import NDArray

from actors.fleet.fleet import FleetCounters, FleetError, incarnations
from actors.fleet.nodes import Identity, last_words, lost_node, node_name, room
from actors.fleet.slot import Slot, is_done
from actors.fleet.worker import RolloutWorker
from actors.rollout import Rollout
from actors.weights import WeightSource
from configs.schema import Config

NOTICE_S = 10.0
"""After so long without a CPU it is told that an actor waits for one."""
VERDICT_S = 60.0
"""So long Ray may take to find out that a node is dead."""


class RayFleet:
    """One Ray worker an actor. Ray must be initialised; `source` must be picklable."""

    def __init__(self, config: Config, source: WeightSource, *, start_step: int = 0) -> None:
        self._limits = config.ray
        self._config_json = config.to_json()
        self._source = source
        self._rng = incarnations(config.seed, start_step)
        self.counters = FleetCounters()
        self._workers = [Slot(None) for _ in range(config.num_actors)]
        self._owner: dict[Any, int] = {}
        self._starved_since: float | None = None
        for actor_id in range(config.num_actors):
            self._start(actor_id)

    def _start(self, actor_id: int) -> None:
        worker = self._workers[actor_id]
        incarnation = int(self._rng.integers(2**63 - 1))
        # Spread: the loss of a node costs few actors, and the learner's node keeps CPUs for the learner.
        remote_class: Any = RolloutWorker  # ray.remote has made it one, which no type says
        spread = remote_class.options(scheduling_strategy="SPREAD")
        worker.handle = spread.remote(self._config_json, self._source, actor_id, incarnation)
        worker.placing, worker.identity = worker.handle.identity.remote(), None
        worker.starting = worker.handle.start.remote()
        worker.waiting_since = time.monotonic()
        for _ in range(self._limits.rollouts_in_flight):
            self._request(actor_id)

    def _request(self, actor_id: int) -> None:
        worker = self._workers[actor_id]
        reference = worker.handle.collect.remote()
        worker.pending.append(reference)
        self._owner[reference] = actor_id

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        deadline = time.monotonic() + timeout_s
        while True:
            self._look_after_all()  # before a rollout is returned: fast actors must not hide a hanging one
            rest = max(0.0, min(deadline - time.monotonic(), 1.0))
            wanted = [reference for reference, actor_id in self._owner.items() if actor_id not in skip]
            ready = self._ready(wanted, rest)
            if ready:
                self.counters.rollouts_ready = len(ready) - 1
                rollout = self._take(ready[0])
                if rollout is not None:
                    self._starved_since = None
                    return rollout
            if time.monotonic() >= deadline:
                self._bear_starving()
                return None

    def _ready(self, wanted: list[Any], timeout_s: float) -> list[Any]:
        if not wanted:  # every actor that may be asked has gone silent
            time.sleep(timeout_s)
            return []
        # One short look at all of them tells the queue's length; a wait only where none is ready.
        ready, _ = ray.wait(wanted, num_returns=len(wanted), timeout=0)
        return ready or ray.wait(wanted, num_returns=1, timeout=timeout_s)[0]

    def _take(self, reference: Any) -> Rollout | None:
        actor_id = self._owner[reference]
        worker = self._workers[actor_id]
        try:
            if worker.starting is not None:
                ray.get(worker.starting)  # its error is the cause of those after it
            rollout: Any = ray.get(reference)
        except ray.exceptions.RayError as error:
            self._fail(actor_id, error)
            return None
        del self._owner[reference]
        worker.pending.remove(reference)
        worker.failures = 0
        worker.starting, worker.waiting_since = None, time.monotonic()
        self._request(actor_id)
        return rollout

    # --- looking after them --------------------------------------------------------------------

    def _look_after_all(self) -> None:
        for actor_id, worker in enumerate(self._workers):
            try:
                self._look_after(actor_id, worker)
            except ray.exceptions.RayError as error:
                self._fail(actor_id, error)
        late = [actor_id for actor_id in self._waiting() if not self._workers[actor_id].told_waiting]
        if late:
            for actor_id in late:
                self._workers[actor_id].told_waiting = True
            _say(f"{_actors(late)} for a place: {room()}. Training goes on with those that have one")

    def _waiting(self) -> list[int]:
        """The actors that have looked for a place for a while."""
        now = time.monotonic()
        return [
            actor_id
            for actor_id, worker in enumerate(self._workers)
            if worker.identity is None and worker.doubt is None and now - worker.waiting_since > NOTICE_S
        ]

    def _look_after(self, actor_id: int, worker: Slot) -> None:
        waited = time.monotonic() - worker.waiting_since
        if worker.doubt is not None:
            self._await_verdict(actor_id, worker, worker.doubt, waited)
        elif worker.identity is None:
            if is_done(worker.placing):
                home: Identity = ray.get(worker.placing)
                worker.identity, worker.waiting_since = home, time.monotonic()
                if worker.told_waiting or worker.replaced:
                    _say(f"actor {actor_id} is placed on {node_name(home.node_id)}")
                worker.told_waiting = worker.replaced = False
        elif worker.starting is not None:
            if is_done(worker.starting):
                ray.get(worker.starting)
                worker.starting, worker.waiting_since = None, time.monotonic()
            elif waited > self._limits.start_timeout_s:
                limit = f"ray.start_timeout_s = {self._limits.start_timeout_s:g}"
                self._replace(actor_id, TimeoutError(f"its environments were not up within {limit}"))
        elif waited > self._limits.rollout_timeout_s:
            if is_done(worker.pending[0]):
                worker.waiting_since = time.monotonic()
            else:
                limit = f"ray.rollout_timeout_s = {self._limits.rollout_timeout_s:g}"
                self._replace(actor_id, TimeoutError(f"no rollout within {limit}"))

    def _bear_starving(self) -> None:
        """Nothing came in time. Raises FleetError when that has lasted while actors wait for CPUs."""
        waiting = self._waiting()
        now, limit = time.monotonic(), self._limits.start_timeout_s
        self._starved_since = (self._starved_since or now) if waiting else None
        if self._starved_since is not None and now - self._starved_since > limit:
            raise FleetError(
                f"no rollout for {limit:g} s (ray.start_timeout_s), and {_actors(waiting)} for a place: "
                f"{room()}. Add nodes, or ask for fewer with --num-actors"
            )

    def _fail(self, actor_id: int, error: Exception) -> None:
        """Replaces an actor; one that went silent only when it is known why, while the others go on."""
        worker = self._workers[actor_id]
        self._disown(worker)
        if isinstance(error, ray.exceptions.ActorUnavailableError):
            worker.doubt, worker.waiting_since = error, time.monotonic()
            worker.verdict = worker.handle.identity.remote()
        else:
            self._replace(actor_id, error)

    def _await_verdict(self, actor_id: int, worker: Slot, doubt: Exception, waited: float) -> None:
        if not is_done(worker.verdict):
            return
        try:
            ray.get(worker.verdict)  # it lives; but what it was asked for is lost
        except ray.exceptions.ActorUnavailableError:
            if waited < VERDICT_S:
                worker.verdict = worker.handle.identity.remote()
                return
        except ray.exceptions.RayError as cause:
            doubt = cause
        self._replace(actor_id, doubt)

    def _disown(self, worker: Slot) -> None:
        """Its unfinished rollouts are no longer waited for."""
        for reference in worker.pending:
            del self._owner[reference]
        worker.pending.clear()

    def _replace(self, actor_id: int, error: Exception) -> None:
        worker = self._workers[actor_id]
        self.counters.actor_restarts += 1
        self._disown(worker)
        worker.doubt = worker.verdict = None
        ray.kill(worker.handle, no_restart=True)
        home = worker.home
        lost = lost_node(error, home)
        if lost is not None:
            _say(f"actor {actor_id} was lost with its node {node_name(lost)}; a new incarnation starts")
        else:
            where = "" if home is None else f" on {node_name(home.node_id)}"
            worker.failures += 1
            report = self._report(error, home)
            if worker.failures >= self._limits.max_consecutive_failures:
                raise FleetError(
                    f"actor {actor_id}{where} failed {worker.failures} times in a row without a rollout "
                    f"between; the last failure was:\n{report}"
                ) from error
            _say(f"actor {actor_id}{where} failed, a new incarnation starts:\n{report}")
        worker.replaced = True
        self._start(actor_id)

    def _report(self, error: Exception, home: Identity | None) -> str:
        """The whole error; of a process that died also what it printed last."""
        text = str(error).strip()
        if isinstance(error, ray.exceptions.RayTaskError):
            self.counters.env_errors += 1
        elif home is not None:
            text += f"\nthe last lines of process {home.pid}:\n{last_words(home)}"
        return "\n".join(f"    {line}" for line in text.splitlines())

    # --- the rest of the contract --------------------------------------------------------------

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that are up now, for diagnosis and fault tests."""
        return [found.pid for found in ray.get([worker.handle.identity.remote() for worker in self._workers])]

    @property
    def resumable(self) -> bool:
        return False

    def state_dict(self) -> dict[str, NDArray[Any]] | None:
        return None  # the streams live in other processes; a resumed run starts new incarnations

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        raise ValueError("a Ray fleet cannot take up streams; it starts new incarnations")

    def close(self) -> None:
        for worker in self._workers:
            ray.kill(worker.handle, no_restart=True)


def _actors(actor_ids: list[int]) -> str:
    numbers = ", ".join(map(str, actor_ids))
    return f"actor {numbers} waits" if len(actor_ids) == 1 else f"actors {numbers} wait"


def _say(message: str) -> None:
    print(message, flush=True)
