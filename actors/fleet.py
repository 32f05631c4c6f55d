"""The actors as one source of rollouts, in this process or in Ray.

Back-pressure: an actor works on at most `rollouts_in_flight` requests, finished ones that nobody
took included, so a slow learner slows the actors instead of filling memory.
Failure: a worker that dies, raises or hangs is replaced by a new one under a new incarnation, whose
episodes, recurrent state and (on the learner's side) traces start anew. A rollout exists only when it
is whole, so no half rollout is ever seen. `max_consecutive_failures` in a row stop the run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.collect import make_collector
from actors.rollout import Rollout
from actors.weights import WeightSource
from configs.schema import Config


class FleetError(RuntimeError):
    """The actors cannot go on. The message carries the last failure's own error."""


@dataclass(slots=True)
class FleetCounters:
    """Totals since the fleet started."""

    actor_restarts: int = 0
    """Workers replaced, for whatever reason."""
    env_errors: int = 0
    """Of these: workers whose own code raised (an env or the policy), with the worker alive."""
    rollouts_ready: int = 0
    """Rollouts finished and not yet taken (now, not a total)."""


class Fleet(Protocol):
    counters: FleetCounters

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        """The next finished rollout, oldest request first; None if none came in time.

        `skip`: actors of which the learner has a rollout in hand. Theirs stay where they are, and so a fast
        actor waits for a slow one instead of running ahead.

        Raises FleetError when an actor failed too often in a row.
        """
        ...

    def state_dict(self) -> dict[str, NDArray[Any]] | None:
        """The streams' whole state, or None where it cannot be written down."""
        ...

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None: ...

    def close(self) -> None: ...


def incarnations(seed: int, start_step: int) -> np.random.Generator:
    """Source of incarnation numbers: the same for the same seed, new after each resume."""
    return np.random.default_rng([seed, start_step])


class InlineFleet:
    """All actors in this process, one after the other: deterministic, without Ray."""

    def __init__(self, config: Config, source: WeightSource, *, start_step: int = 0) -> None:
        rng = incarnations(config.seed, start_step)
        self.counters = FleetCounters()
        self._collectors = [
            make_collector(config, source, actor_id, int(rng.integers(2**63 - 1)))
            for actor_id in range(config.num_actors)
        ]
        self._turn = 0

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        while self._turn in skip:
            self._turn = (self._turn + 1) % len(self._collectors)
        collector = self._collectors[self._turn]
        self._turn = (self._turn + 1) % len(self._collectors)
        return collector.collect()

    def state_dict(self) -> dict[str, NDArray[Any]] | None:
        if not all(collector.resumable for collector in self._collectors):
            return None
        state: dict[str, NDArray[Any]] = {"turn": np.array(self._turn)}
        for index, collector in enumerate(self._collectors):
            state |= {f"{index}/{name}": array for name, array in collector.state_dict().items()}
        return state

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        self._turn = int(state["turn"])
        for index, collector in enumerate(self._collectors):
            prefix = f"{index}/"
            collector.load_state_dict(
                {name[len(prefix) :]: array for name, array in state.items() if name.startswith(prefix)}
            )

    def close(self) -> None:
        for collector in self._collectors:
            collector.close()


@dataclass(slots=True)
class _Worker:
    """One actor slot of the fleet: its present Ray handle and what it owes."""

    handle: Any
    starting: Any = None
    """Reference that is done once the worker is up; None from then on."""
    pending: deque[Any] = field(default_factory=deque)
    """References of the rollouts asked for, oldest first."""
    waiting_since: float = 0.0
    """When the start, or then the oldest unfinished request, began to be waited for (monotonic seconds)."""
    failures: int = 0
    """In a row, without a rollout between."""


class RayFleet:
    """One Ray worker an actor. Ray must be initialised; `source` must be picklable."""

    def __init__(self, config: Config, source: WeightSource, *, start_step: int = 0) -> None:
        import ray  # the inline runtime works without Ray installed
        import ray.exceptions

        from actors.worker import RolloutWorker

        self._ray: Any = ray
        self._worker_class = RolloutWorker
        self._config = config
        self._config_json = config.to_json()
        self._source = source
        self._rng = incarnations(config.seed, start_step)
        self.counters = FleetCounters()
        self._workers = [_Worker(None) for _ in range(config.num_actors)]
        self._owner: dict[Any, int] = {}
        for actor_id in range(config.num_actors):
            self._start(actor_id)

    def _start(self, actor_id: int) -> None:
        worker = self._workers[actor_id]
        incarnation = int(self._rng.integers(2**63 - 1))
        worker.handle = self._worker_class.remote(self._config_json, self._source, actor_id, incarnation)
        worker.starting = worker.handle.pid.remote()
        worker.waiting_since = time.monotonic()
        for _ in range(self._config.ray.rollouts_in_flight):
            self._request(actor_id)

    def _request(self, actor_id: int) -> None:
        worker = self._workers[actor_id]
        reference = worker.handle.collect.remote()
        worker.pending.append(reference)
        self._owner[reference] = actor_id

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        deadline = time.monotonic() + timeout_s
        while True:
            self._replace_hanging()  # before a rollout is returned: fast actors must not hide a hanging one
            rest = max(0.0, min(deadline - time.monotonic(), 1.0))
            wanted = [reference for reference, actor_id in self._owner.items() if actor_id not in skip]
            # One short look at all of them tells the queue's length; a wait only where none is ready.
            ready, _ = self._ray.wait(wanted, num_returns=len(wanted), timeout=0)
            if not ready:
                ready, _ = self._ray.wait(wanted, num_returns=1, timeout=rest)
            if ready:
                self.counters.rollouts_ready = len(ready) - 1
                rollout = self._take(ready[0])
                if rollout is not None:
                    return rollout
            if time.monotonic() >= deadline:
                return None

    def _take(self, reference: Any) -> Rollout | None:
        actor_id = self._owner[reference]
        worker = self._workers[actor_id]
        try:
            rollout: Any = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            self.counters.env_errors += 1
            self._replace(actor_id, error)
            return None
        except self._ray.exceptions.RayError as error:
            self._replace(actor_id, error)
            return None
        del self._owner[reference]
        worker.pending.remove(reference)
        worker.failures = 0
        worker.starting, worker.waiting_since = None, time.monotonic()
        self._request(actor_id)
        return rollout

    def _replace_hanging(self) -> None:
        limits = self._config.ray
        for actor_id, worker in enumerate(self._workers):
            waited = time.monotonic() - worker.waiting_since
            if worker.starting is not None:
                if self._is_done(worker.starting):
                    worker.starting, worker.waiting_since = None, time.monotonic()
                elif waited > limits.start_timeout_s:
                    reason = f"not up within ray.start_timeout_s = {limits.start_timeout_s:g}"
                    self._replace(actor_id, TimeoutError(f"{reason}: is a CPU free for it?"))
            elif waited > limits.rollout_timeout_s:
                if self._is_done(worker.pending[0]):
                    worker.waiting_since = time.monotonic()
                else:
                    reason = f"no rollout within ray.rollout_timeout_s = {limits.rollout_timeout_s:g}"
                    self._replace(actor_id, TimeoutError(reason))

    def _is_done(self, reference: Any) -> bool:
        return bool(self._ray.wait([reference], timeout=0)[0])

    def _replace(self, actor_id: int, error: Exception) -> None:
        worker = self._workers[actor_id]
        worker.failures += 1
        self.counters.actor_restarts += 1
        for reference in worker.pending:
            del self._owner[reference]
        worker.pending.clear()
        self._ray.kill(worker.handle, no_restart=True)
        if worker.failures >= self._config.ray.max_consecutive_failures:
            raise FleetError(
                f"actor {actor_id} failed {worker.failures} times in a row without a rollout between; "
                f"the last failure was:\n{error}"
            ) from error
        reason = str(error).strip().rpartition("\n")[2]  # of a traceback the last line
        print(f"actor {actor_id} failed, a new incarnation starts: {reason}", flush=True)
        self._start(actor_id)

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that are up now, for diagnosis and fault tests."""
        return self._ray.get([worker.handle.pid.remote() for worker in self._workers])

    def state_dict(self) -> dict[str, NDArray[Any]] | None:
        return None  # the streams live in other processes; a resumed run starts new incarnations

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        raise ValueError("a Ray fleet cannot take up streams; it starts new incarnations")

    def close(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.handle, no_restart=True)


def make_fleet(config: Config, source: WeightSource, *, start_step: int = 0) -> Fleet:
    """The fleet that `config.runtime` names. `start_step` is 0, or the step a run resumes from."""
    fleet = RayFleet if config.runtime == "ray" else InlineFleet
    return fleet(config, source, start_step=start_step)
