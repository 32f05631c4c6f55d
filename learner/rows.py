"""What a training loop tells of itself: measured, gathered from several learners, and written as rows."""

from __future__ import annotations

import time

from configs.schema import Config
from envs.scores import suite_for
from learner.learner import Learner
from learner.prefetch import Feed
from learner.publish import Publisher
from learner.ranks import RanksDifferError, fingerprint
from learner.records.metrics import Metrics
from learner.records.sinks import Sink
from learner.records.timing import Timesheet
from learner.source import RolloutSource


class Rows:
    def __init__(
        self,
        config: Config,
        learner: Learner,
        source: RolloutSource,
        feed: Feed,
        publisher: Publisher,
        sink: Sink,
        frames_per_step: int,
    ) -> None:
        self._config, self._learner, self._ranks = config, learner, learner.ranks
        self._source, self._feed, self._publisher, self._sink = source, feed, publisher, sink
        self._frames_per_step = frames_per_step
        self.metrics = Metrics(suite_for(config.env))
        self.spent = Timesheet()
        self.checkpoint_errors = 0
        self.begin()

    def begin(self) -> None:
        """From now on a window is measured."""
        self._window(time.monotonic())

    def _window(self, since: float) -> None:
        self._since, self._step, self._updates = since, self._learner.global_step, self._learner.updates

    @property
    def steps(self) -> int:
        """Agent steps learned from in the window."""
        return self._learner.global_step - self._step

    def is_time(self) -> bool:
        """Whether a row is due by the clock, once there are enough steps (`are_enough`)."""
        return time.monotonic() - self._since >= self._config.log_interval_s

    def are_enough(self) -> bool:
        return self.steps >= self._config.log_interval_steps

    def write(self) -> None:
        """A row, on all learners at the same step. All updates must have been read."""
        now = time.monotonic()
        self.gather()
        self.write_gathered(now)
        self._window(now)

    def gather(self) -> None:
        """What each learner counts by itself, at the first one. Raises RanksDifferError there, where another
        does not have the same weights."""
        counters = self._source.counters
        self.metrics.add_many(self.spent.metrics(max(self._learner.updates - self._updates, 1)))
        self.metrics.add_many(
            {
                "perf/actors": counters.actors,
                "queue/rollouts": counters.rollouts_ready + self._feed.rollouts,
                "faults/actor_restarts": counters.actor_restarts,
                "faults/env_errors": counters.env_errors,
                "faults/lost_calls": counters.lost_calls,
                "faults/starved_s": counters.starved_s,
                "faults/dropped_rollouts": self._feed.batcher.dropped,
            }
        )
        unrolls = self._source.unrolls() | self._feed.batcher.unrolls
        self.metrics.add_many({f"unrolls/{name}": number for name, number in unrolls.items()})
        if self._ranks.of > 1:
            mine = {} if self._ranks.number == 0 else self.metrics.hand_over()
            weights, updates = fingerprint(self._learner.policy), self._learner.updates
            others = self._ranks.gather({"window": mine, "weights": weights})
            if any(other["weights"] != weights for other in others):
                raise RanksDifferError(f"the learners do not have the same weights after update {updates}")
            self.metrics.take_over([other["window"] for other in others])

    def write_gathered(self, now: float) -> None:
        if self._ranks.number:
            return
        sps = self.steps / max(now - self._since, 1e-9)
        self.metrics.add_many(
            {
                "charts/SPS": sps,
                "perf/fps": sps * self._frames_per_step,
                "faults/publish_errors": self._publisher.errors,
                "faults/skipped_publications": self._publisher.skipped,
                "faults/checkpoint_errors": self.checkpoint_errors,
                "faults/sink_errors": self._sink.errors,
                "faults/nonfinite_metrics": self.metrics.nonfinite,
            }
        )
        self._sink.write(self._learner.global_step, self.metrics.reduce())

    def end(self) -> None:
        """The last row: what was gathered, or of a window without a step the evaluation in it."""
        if self.steps:
            self.write_gathered(time.monotonic())
        elif self._ranks.number == 0 and (rest := self.metrics.reduce()):
            self._sink.write(self._learner.global_step, rest)
