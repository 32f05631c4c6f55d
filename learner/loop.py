"""The training loop: rollouts in, updates, weights out, numbers to the sinks, state to disk.

    rollouts --Batcher--> batch --Learner--> weights --Publisher--> actors
                                     |-> Metrics --Sink--> metrics.jsonl, W&B, the progress view
                                     '-> checkpoints, at an interval and at the end

The loop knows the actors only as a source of rollouts.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from actors.rollout import Rollout
from configs.schema import Config
from learner.batcher import Batch, Batcher
from learner.learner import Learner
from learner.publish import Publisher
from learner.records import checkpoint
from learner.records.evaluations import Evaluations, Evaluator
from learner.records.metrics import Metrics
from learner.records.sinks import Sink
from learner.records.state import split_state


class Counters(Protocol):
    actor_restarts: int
    env_errors: int
    rollouts_ready: int


class RolloutSource(Protocol):
    """What the loop needs of a fleet of actors."""

    @property
    def counters(self) -> Counters: ...

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None: ...

    def state_dict(self) -> dict[str, NDArray[Any]] | None: ...

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None: ...


@dataclass(slots=True)
class StopFlag:
    """Set from a signal handler; the loop ends after the update in hand."""

    reason: str | None = None


class TrainLoop:
    """One run, from its first update or a resumed one to its end."""

    def __init__(
        self,
        config: Config,
        learner: Learner,
        source: RolloutSource,
        publisher: Publisher,
        sink: Sink,
        checkpoints: Path,
        *,
        frames_per_step: int,
        stop: StopFlag,
        evaluator: Evaluator | None = None,
    ) -> None:
        self.config = config
        self.learner = learner
        self._source = source
        self._publisher = publisher
        self._sink = sink
        self._checkpoints = checkpoints
        self._frames_per_step = frames_per_step
        self._stop = stop
        self._metrics = Metrics()
        self._evaluations = None
        if evaluator is not None:
            interval = config.eval.interval_steps
            self._evaluations = Evaluations(evaluator, interval, learner.global_step, self._metrics)
        self._batcher = Batcher(config, learner.device)
        self._checkpoint_errors = 0
        self._seconds: dict[str, float] = {}

    def run(self) -> str:
        """Trains until total_steps, time_limit_s or the stop flag. Returns why it ended.

        A checkpoint is written at the end, however the run ends, except for an error.
        """
        if self.learner.updates == 0:
            self.save()  # so that a run that is killed early can be resumed too
        started = last_log = last_save = time.monotonic()
        logged_step = self.learner.global_step
        while (reason := self._finished(started)) is None:
            batch = self._next_batch()
            if batch is None:
                continue
            self._metrics.add("queue/wait_ms", batch.wait_ms)
            self._metrics.add_many(self.learner.update(batch))
            if self.learner.updates % self.config.publish_interval == 0:
                with self._timed("publish"):
                    self._publisher.publish(self.learner.policy, self.learner.updates)
            for episode in batch.episodes:
                self._metrics.episode(episode)
            if self._evaluations is not None:
                with self._timed("evaluate"):
                    self._evaluations.poll(self.learner.global_step)
            now = time.monotonic()
            steps = self.learner.global_step - logged_step
            if now - last_log >= self.config.log_interval_s and steps >= self.config.log_interval_steps:
                self._log(steps, now - last_log)
                last_log, logged_step = now, self.learner.global_step
            if now - last_save >= self.config.checkpoint.interval_s:
                self._save_or_count()
                last_save = now
        if self._evaluations is not None:
            self._publisher.publish(self.learner.policy, self.learner.updates)
            self._evaluations.finish(self.learner.global_step, lambda: self._stop.reason is not None)
        steps = self.learner.global_step - logged_step
        if steps:
            self._log(steps, time.monotonic() - last_log)
        elif rest := self._metrics.reduce():
            self._sink.write(self.learner.global_step, rest)
        self.save()
        return reason

    def _finished(self, started: float) -> str | None:
        limit = self.config.time_limit_s
        if self.learner.global_step >= self.config.total_steps:
            return f"total_steps = {self.config.total_steps} reached"
        if limit is not None and time.monotonic() - started >= limit:
            return f"time_limit_s = {limit:g} reached"
        return self._stop.reason

    def _next_batch(self) -> Batch | None:
        """The next batch; None when asked to stop, or now and then while waiting, to look at the clock."""
        with self._timed("transfer"):
            batch = self._batcher.next_batch()
        while batch is None:
            if self._stop.reason is not None:
                return None
            with self._timed("wait"):
                rollout = self._source.next_rollout(timeout_s=1.0, skip=self._batcher.actors)
            if rollout is None:
                return None
            self._batcher.add(rollout, self.learner.updates)
            with self._timed("transfer"):
                batch = self._batcher.next_batch()
        return batch

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        """Wall time of a part of the loop; `_log` divides the window's sum by its updates."""
        start = time.perf_counter()
        yield
        self._seconds[part] = self._seconds.get(part, 0.0) + time.perf_counter() - start

    def _log(self, steps: int, seconds: float) -> None:
        sps, updates = steps / max(seconds, 1e-9), max(steps / self.config.steps_per_update, 1.0)
        self._metrics.add_many(
            {f"perf/time_{part}_ms": 1e3 * spent / updates for part, spent in self._seconds.items()}
        )
        self._seconds.clear()
        self._metrics.add_many(
            {
                "charts/SPS": sps,
                "perf/fps": sps * self._frames_per_step,
                "queue/rollouts": self._source.counters.rollouts_ready + len(self._batcher),
                "faults/actor_restarts": self._source.counters.actor_restarts,
                "faults/env_errors": self._source.counters.env_errors,
                "faults/dropped_rollouts": self._batcher.dropped,
                "faults/checkpoint_errors": self._checkpoint_errors,
                "faults/sink_errors": self._sink.errors,
                "faults/nonfinite_metrics": self._metrics.nonfinite,
            }
        )
        self._sink.write(self.learner.global_step, self._metrics.reduce())

    # --- checkpoints ---------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Learner, metrics, and the streams where they can be written down.

        No random state of this process: after the start only the actors draw, from generators of their own.
        """
        streams = self._source.state_dict()
        assert streams is None or not len(self._batcher), "a rollout in hand would be lost"
        state = self.learner.state_dict() | {
            "metrics": self._metrics.state_dict(),
            "streams_of": self._streams_of(),
            "streams": None
            if streams is None
            else {name: torch.from_numpy(array) for name, array in streams.items()},
        }
        if streams is None:
            state["traces"] = None  # the streams end with this process, and their traces with them
        return state

    def resume(self, state: dict[str, Any]) -> None:
        """Takes up what `Learner.load_state_dict` does not: streams, their traces, the metrics' window.

        Streams go on only where they were written down and the same actors are there to go on with
        them; else new incarnations start, with zero traces.
        """
        self._metrics.load_state_dict(state["metrics"])
        if state["streams"] is not None and state["streams_of"] == self._streams_of():
            self._source.load_state_dict({name: tensor.numpy() for name, tensor in state["streams"].items()})
            self.learner.load_traces(state)

    def _streams_of(self) -> list[Any]:
        config = self.config
        return [config.runtime, config.env.id, config.num_actors, config.env.num_envs, config.credit]

    def _save_or_count(self) -> None:
        """A disk that is full for a while does not end the run: the failure is told, counted, retried."""
        try:
            self.save()
        except checkpoint.CheckpointError as error:
            self._checkpoint_errors += 1
            print(f"checkpoint not written, next try in {self.config.checkpoint.interval_s:g} s: {error}")

    def save(self) -> Path:
        tensors, rest = split_state(self.state_dict(), "")
        return checkpoint.save(
            self._checkpoints,
            self.learner.global_step,
            tensors,
            {"state": rest, "preset": self.config.preset},
            keep_last=self.config.checkpoint.keep_last,
        )
