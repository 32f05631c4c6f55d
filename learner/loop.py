"""The training loop: rollouts in, updates, weights out, numbers to the sinks, state to disk.

    rollouts --Feed--> batch --Learner--> weights --Publisher--> actors
                                  |-> Metrics --Sink--> metrics.jsonl, W&B, the progress view
                                  '-> checkpoints, at an interval and at the end

The loop knows the actors only as a source of rollouts. Of several learners each runs one, on its own actors
and streams, to which it hands the weights that are the same on all; before each update they agree whether
there is one (ranks.py), and the first evaluates, records and saves.

How it ends: at total_steps, at time_limit_s or when it is asked to stop, each with a checkpoint; or by an
error, before which a checkpoint is written too, unless the weights themselves are in doubt. Streams that can
be written down go into the checkpoint whole, with the rollouts that wait here for a batch.
"""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.schema import Config
from learner.batcher import Batch
from learner.learner import Learner
from learner.memory import naming_sizes
from learner.prefetch import make_feed
from learner.publish import Publisher
from learner.ranks import Agreed, RanksDifferError
from learner.records import checkpoint
from learner.records.best import BestCheckpoint
from learner.records.evaluations import Evaluations, Evaluator
from learner.records.sinks import Sink
from learner.records.timing import Stopwatch
from learner.rows import Rows
from learner.run_state import RunState
from learner.source import RolloutSource


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
        self.learner, self._ranks = learner, learner.ranks
        self._first = learner.ranks.number == 0
        """Of several learners, the one that records and saves."""
        self._publisher = publisher
        self._stop = stop
        self._feed = make_feed(learner.config, source, learner.device, lambda: learner.updates)
        self._rows = Rows(config, learner, source, self._feed, publisher, sink, frames_per_step)
        self._metrics, self.spent = self._rows.metrics, self._rows.spent
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
        self._state = RunState(
            config, learner, source, self._feed.batcher, publisher, self._metrics, checkpoints
        )
        self.saves = 0
        """Checkpoints written in passing: not the first, nor the last, nor one because of an error."""
        self.came_round = time.monotonic()
        """When the loop last asked whether it is to end: one that has not for long hangs."""
        self._batch: Batch | None = None
        self._copying: deque[Stopwatch] = deque()
        """Of the updates that were launched and not read."""
        self._fed = math.inf
        """When there was last a batch; not before the first one."""

    def resume(self, state: dict[str, Any]) -> None:
        """Takes up what `Learner.load_state_dict` does not, and says what became of the streams."""
        said = self._state.resume(state)
        if self._first:
            print(said, flush=True)

    def run(self) -> str:
        """Trains until total_steps, time_limit_s or the stop flag. Returns why it ended.

        A checkpoint is written at the end, however the run ends (`_rescue` says where it cannot be); then,
        unless time is up or somebody asked to stop, the last weights are evaluated.
        """
        try:
            return self._train()
        except (checkpoint.CheckpointError, RanksDifferError):
            raise
        except BaseException:
            self._rescue()
            raise
        finally:
            self._feed.close()

    def _train(self) -> str:
        if self.learner.updates == 0 and self._first:
            self._state.save()  # so that a run that is killed early can be resumed too
        last_save = time.monotonic()
        if self.config.time_limit_s is not None and self._stop.deadline is None and self._first:
            self._stop.deadline = last_save + self.config.time_limit_s
        saved_step, saving = self.learner.global_step, self.config.checkpoint
        self._rows.begin()
        while (agreed := self._agreed()).step:
            self._update(agreed)
            if self._evaluations is not None:
                with self.spent.timed("evaluate"):
                    self._evaluations.poll()
            if agreed.log and self._rows.are_enough():
                self._read(0)
                self._rows.write()
            steps = self.learner.global_step - saved_step
            now = time.monotonic()
            if self._first and now - last_save >= saving.interval_s and steps >= saving.interval_steps:
                self._save_or_count()
                last_save, saved_step = now, self.learner.global_step
        reason = self._finished()  # None: another learner was asked to stop
        self._read(0)
        if self._first:
            self._state.save()  # before all that may take long or fail
        self._feed.close()
        if self._rows.steps:
            self._rows.gather()  # the others are not to wait for what follows
        if self._evaluations is not None and reason is not None and self._must_end() is None:
            self._publisher.publish(self.learner.policy, self.learner.updates)
            self._publisher.flush()
            self._evaluations.finish()
        self._rows.end()
        return reason or "another learner was asked to stop"

    def _update(self, agreed: Agreed) -> None:
        """One update and its publication, and the metrics of the one before."""
        batch, self._batch = self._batch, None
        with self._naming_sizes():
            if batch is None:
                self.learner.follow(agreed.steps)
            else:
                self.learner.launch(batch, agreed.steps)
                self._copying.append(batch.copying)
        self._read(1)  # those of this one while a GPU is at work on the next
        if batch is not None:
            self._metrics.add("queue/wait_ms", batch.wait_ms)
            self.spent.add("transfer", batch.joining_ms)
            for episode in batch.episodes:
                self._metrics.episode(episode)
        if self.learner.updates % self.config.publish_interval == 0:
            with self.spent.timed("publish"):
                self._publisher.publish(self.learner.policy, self.learner.updates)

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

    def _agreed(self) -> Agreed:
        """What comes next on all learners, once that is an update or the end. This one's batch for it is then
        in `_batch`.

        All wait for one that has no batch, as long as nobody is told that it starves (`ray.stall_report_s`).
        """
        ending = self._finished() is not None
        while True:
            now, taken = time.monotonic(), None
            if self._batch is None and not ending:
                with self._naming_sizes():
                    taken = self._batch = self._feed.take()
            if taken is None:  # a batch that was there in time is learned from
                ending = self._finished() is not None
            steps = 0 if self._batch is None else self._batch.num_steps
            self._fed = now if steps else self._fed
            with nullcontext() if self._ranks.of == 1 else self.spent.timed("ranks"):
                agreed = self._ranks.agree(
                    ending=ending,
                    steps=steps,
                    waiting=not steps and now - self._fed < self.config.ray.stall_report_s,
                    log=self._rows.is_time(),
                )
            if agreed.ending or agreed.step:
                return agreed
            with self.spent.timed("publish"):
                self._publisher.poll()
            if self._batch is None:
                with self.spent.timed("wait"), self._naming_sizes():
                    self._feed.wait()

    def _naming_sizes(self) -> AbstractContextManager[None]:
        return naming_sizes(self.config, self.learner.policy, self.learner.device)

    # --- checkpoints ---------------------------------------------------------------------------

    def _save_or_count(self) -> None:
        """A disk that is full for a while does not end the run: the failure is told, counted, retried."""
        self._read(0)
        try:
            self._state.save()
        except checkpoint.CheckpointError as error:
            self._rows.checkpoint_errors += 1
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
        if not self._first or self._state.saved_updates == learner.updates:
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
