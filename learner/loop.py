"""The training loop: rollouts in, updates, weights out, numbers to the sinks, state to disk.

    rollouts --Feed--> batch --Learner--> weights --Publisher--> actors
                                  |-> Metrics --Sink--> metrics.jsonl, W&B, the progress view
                                  '-> checkpoints, at an interval and at the end

The loop knows the actors only as a source of rollouts.

How it ends: at total_steps, at time_limit_s or when it is asked to stop, each with a checkpoint; or by an
error, before which a checkpoint is written too, unless the weights themselves are in doubt. Streams that can
be written down go into the checkpoint whole, with the rollouts that wait here for a batch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from actors.rollout import Rollout
from configs.schema import Config
from envs.scores import suite_for
from learner.batcher import Batch
from learner.learner import Learner
from learner.memory import naming_sizes
from learner.prefetch import make_feed
from learner.publish import Publisher
from learner.records import checkpoint
from learner.records.best import BestCheckpoint
from learner.records.evaluations import Evaluations, Evaluator
from learner.records.metrics import Metrics
from learner.records.sinks import Sink
from learner.records.timing import Stopwatch, Timesheet
from learner.run_state import RunState


class Counters(Protocol):
    actors: int
    actor_restarts: int
    env_errors: int
    lost_calls: int
    starved_s: float
    rollouts_ready: int


class RolloutSource(Protocol):
    """What the loop needs of a fleet of actors."""

    @property
    def counters(self) -> Counters: ...

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None: ...

    def unrolls(self) -> dict[str, int]: ...

    def state_dict(self) -> dict[str, NDArray[Any]] | None: ...
    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None: ...


@dataclass(slots=True)
class StopFlag:
    """Why and when a run ends before total_steps."""

    reason: str | None = None
    """Set from a signal handler; the loop ends after the update in hand."""
    deadline: float | None = None
    """Monotonic time at which time_limit_s is over; set when training begins, unless it is kept elsewhere."""

    def seconds_left(self) -> float | None:
        """Until the time limit; None where there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


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
        self._frames_per_step = frames_per_step
        self._stop = stop
        self._metrics = Metrics(suite_for(config.env))
        self._evaluations = None
        if evaluator is not None:
            self._evaluations = Evaluations(
                evaluator,
                config.eval.interval_steps,
                config.steps_per_update,
                learner,
                self._metrics,
                lambda: self._must_end() is not None,
                BestCheckpoint(checkpoints, config.preset),
            )
        self._feed = make_feed(config, source, learner.device, lambda: learner.updates)
        self._state = RunState(
            config, learner, source, self._feed.batcher, publisher, self._metrics, checkpoints
        )
        self._checkpoint_errors = 0
        self.saves = 0
        """Checkpoints written in passing: not the first, nor the last, nor one because of an error."""
        self.came_round = time.monotonic()
        """When the loop last asked whether it is to end: one that has not for long hangs."""
        self._copying: deque[Stopwatch] = deque()
        """Of the updates that were launched and not read."""
        self.spent = Timesheet()

    def resume(self, state: dict[str, Any]) -> None:
        """Takes up what `Learner.load_state_dict` does not, and says what became of the streams."""
        print(self._state.resume(state), flush=True)

    def run(self) -> str:
        """Trains until total_steps, time_limit_s or the stop flag. Returns why it ended.

        A checkpoint is written at the end, however the run ends (`_rescue` says where it cannot be); then,
        unless time is up or somebody asked to stop, the last weights are evaluated.
        """
        try:
            return self._train()
        except checkpoint.CheckpointError:
            raise
        except BaseException:
            self._rescue()
            raise
        finally:
            self._feed.close()

    def _train(self) -> str:
        if self.learner.updates == 0:
            self._state.save()  # so that a run that is killed early can be resumed too
        last_log = last_save = time.monotonic()
        if self.config.time_limit_s is not None and self._stop.deadline is None:
            self._stop.deadline = last_log + self.config.time_limit_s
        logged_step = saved_step = self.learner.global_step
        saving = self.config.checkpoint
        while (reason := self._finished()) is None:
            if not self._update():
                continue
            if self._evaluations is not None:
                with self.spent.timed("evaluate"):
                    self._evaluations.poll()
            now = time.monotonic()
            steps = self.learner.global_step - logged_step
            if now - last_log >= self.config.log_interval_s and steps >= self.config.log_interval_steps:
                self._log(steps, now - last_log)
                last_log, logged_step = now, self.learner.global_step
            steps = self.learner.global_step - saved_step
            if now - last_save >= saving.interval_s and steps >= saving.interval_steps:
                self._save_or_count()
                last_save, saved_step = now, self.learner.global_step
        self._read(0)
        self._state.save()  # before all that may take long or fail
        self._feed.close()
        if self._evaluations is not None and self._must_end() is None:
            self._publisher.publish(self.learner.policy, self.learner.updates)
            self._publisher.flush()
            self._evaluations.finish()
        steps = self.learner.global_step - logged_step
        if steps:
            self._log(steps, time.monotonic() - last_log)
        elif rest := self._metrics.reduce():
            self._sink.write(self.learner.global_step, rest)
        return reason

    def _update(self) -> bool:
        """One update and its publication, and the metrics of the one before; False where the run is to end
        instead."""
        batch = self._next_batch()
        if batch is None:
            return False
        with self._naming_sizes():
            self.learner.launch(batch)
        self._copying.append(batch.copying)
        self._read(1)  # those of this one while a GPU is at work on the next
        self._metrics.add("queue/wait_ms", batch.wait_ms)
        self.spent.add("transfer", batch.joining_ms)
        for episode in batch.episodes:
            self._metrics.episode(episode)
        if self.learner.updates % self.config.publish_interval == 0:
            with self.spent.timed("publish"):
                self._publisher.publish(self.learner.policy, self.learner.updates)
        return True

    def _read(self, but: int) -> None:
        """The metrics of all updates but the last `but`. Raises LearnerError for one that is not finite."""
        while self.learner.unread > but:
            with self._naming_sizes():
                self._metrics.add_many(self.learner.read())
            self.spent.add("transfer", self._copying.popleft().milliseconds())

    def _finished(self) -> str | None:
        if self.learner.global_step >= self.config.total_steps:
            return f"total_steps = {self.config.total_steps} reached"
        return self._must_end()

    def _must_end(self) -> str | None:
        """Why the run ends at once, with no evaluation any more; None if it does not."""
        self.came_round = time.monotonic()
        if self._stop.seconds_left() == 0.0:
            return f"time_limit_s = {self.config.time_limit_s:g} reached"
        return self._stop.reason

    def _next_batch(self) -> Batch | None:
        """The next batch; None where the run is to end."""
        while True:
            with self._naming_sizes():
                batch = self._feed.take()
            if batch is not None:
                return batch
            if self._finished() is not None:
                return None
            with self.spent.timed("publish"):
                self._publisher.poll()
            with self.spent.timed("wait"), self._naming_sizes():
                self._feed.wait()

    def _naming_sizes(self) -> AbstractContextManager[None]:
        return naming_sizes(self.config, self.learner.policy, self.learner.device)

    def _log(self, steps: int, seconds: float) -> None:
        self._read(0)
        sps, updates = steps / max(seconds, 1e-9), max(steps / self.config.steps_per_update, 1.0)
        self._metrics.add_many(self.spent.metrics(updates))
        self._metrics.add_many(
            {
                "charts/SPS": sps,
                "perf/fps": sps * self._frames_per_step,
                "perf/actors": self._source.counters.actors,
                "queue/rollouts": self._source.counters.rollouts_ready + self._feed.rollouts,
                "faults/actor_restarts": self._source.counters.actor_restarts,
                "faults/env_errors": self._source.counters.env_errors,
                "faults/lost_calls": self._source.counters.lost_calls,
                "faults/starved_s": self._source.counters.starved_s,
                "faults/dropped_rollouts": self._feed.batcher.dropped,
                "faults/publish_errors": self._publisher.errors,
                "faults/skipped_publications": self._publisher.skipped,
                "faults/checkpoint_errors": self._checkpoint_errors,
                "faults/sink_errors": self._sink.errors,
                "faults/nonfinite_metrics": self._metrics.nonfinite,
            }
        )
        unrolls = self._source.unrolls() | self._feed.batcher.unrolls
        self._metrics.add_many({f"unrolls/{name}": number for name, number in unrolls.items()})
        self._sink.write(self.learner.global_step, self._metrics.reduce())

    # --- checkpoints ---------------------------------------------------------------------------

    def _save_or_count(self) -> None:
        """A disk that is full for a while does not end the run: the failure is told, counted, retried."""
        self._read(0)
        try:
            self._state.save()
        except checkpoint.CheckpointError as error:
            self._checkpoint_errors += 1
            print(f"checkpoint not written, next try in {self.config.checkpoint.interval_s:g} s: {error}")
        else:
            self.saves += 1

    def _rescue(self) -> None:
        """Before an error ends the run: a checkpoint of the updates done, if there is a sound one to write.

        Without streams, which are somewhere in the middle of a batch that was not learned from.
        """
        learner = self.learner
        try:
            while learner.unread:
                learner.read()
        except Exception as error:
            print(f"and before that: {error}", flush=True)
        if self._state.saved_updates == learner.updates:
            return
        try:
            if not learner.is_sound():
                print(f"no checkpoint of update {learner.updates}: its weights are half moved, or not finite")
                return
            path = self._state.save(streams=False)
        except Exception as error:  # whatever it is, the error that ends the run is the one to tell of
            print(f"no checkpoint of update {learner.updates} could be written: {error!r}", flush=True)
        else:
            print(f"saved step {learner.global_step:,} in {path}; then the run ended by an error", flush=True)
