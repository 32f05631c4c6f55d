"""When the newest weights are evaluated while training goes on, and what becomes of the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from typing import Any, Protocol

from numpy.typing import NDArray

from envs.scores import score_levels
from learner.records.best import BestCheckpoint
from learner.records.metrics import Metrics, level_metrics


class Evaluation(Protocol):
    """What is logged of one (actors/play/evaluation.py)."""

    @property
    def episodes(self) -> Sized: ...
    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...
    @property
    def mean_length(self) -> float: ...
    @property
    def cut(self) -> int: ...
    @property
    def return_error(self) -> float | None: ...
    @property
    def level_returns(self) -> Mapping[str, float]: ...
    @property
    def score_suite(self) -> str | None: ...
    def warnings(self) -> list[str]: ...


class Finished(Protocol):
    @property
    def version(self) -> int: ...
    @property
    def evaluation(self) -> Evaluation: ...
    @property
    def weights(self) -> Mapping[str, NDArray[Any]]: ...


class Evaluator(Protocol):
    """Who plays the games (actors/play/evaluator.py)."""

    @property
    def errors(self) -> int: ...

    def request(self, global_step: int, stopped: Callable[[], bool]) -> bool: ...

    def finished(self, timeout_s: float = 0.0) -> Finished | None: ...


class Clock(Protocol):
    """Where the training stands (learner/learner.py)."""

    updates: int
    global_step: int


def _score(result: Evaluation) -> float:
    """What is compared: the mean capped score of a whole suite, else the mean return."""
    return score_levels(result.score_suite, result.level_returns)[1].get("mean_capped", result.mean)


class Evaluations:
    """One every `interval_steps` agent steps, or as often as they can be played; a last one at the end."""

    def __init__(
        self,
        evaluator: Evaluator,
        interval_steps: int,
        steps_per_update: int,
        now: Clock,
        metrics: Metrics,
        stopped: Callable[[], bool],
        best: BestCheckpoint | None = None,
    ) -> None:
        """`stopped`: whether the run is to end at once, evaluations or not. `best`: keeps the best ones."""
        self._best = best
        self._evaluator, self._interval, self._metrics = evaluator, interval_steps, metrics
        self._steps_per_update, self._now, self._stopped = steps_per_update, now, stopped
        self._last = now.global_step // interval_steps
        self._seen = now.updates, now.global_step
        self._short: list[tuple[int, int]] = []
        """Updates that had fewer steps than `steps_per_update`, since a learner of several had no batch: the
        version after each, and how many fewer. Of weights that an evaluation may still be of."""
        self._done = -1
        """Version of the weights that were evaluated last."""

    def poll(self) -> None:
        """After every update: asks for an evaluation that is due, and takes one that is done."""
        step = self._now.global_step
        self._note_short()
        if step // self._interval > self._last and self._evaluator.request(step, self._stopped):
            self._last = step // self._interval
        self._take(0.0)

    def finish(self) -> None:
        """At the end of the training, by its last weights, which are published; waits, unless stopped."""
        requested = False
        while self._done != self._now.updates and not self._stopped():
            errors = self._evaluator.errors
            requested = requested or self._evaluator.request(self._now.global_step, self._stopped)
            taken = self._take(0.5)
            if requested and (taken or self._evaluator.errors > errors):
                return

    def _take(self, timeout_s: float) -> bool:
        """Metrics of an evaluation that is done; whether one is."""
        finished = self._evaluator.finished(timeout_s)
        self._metrics.add("faults/eval_errors", self._evaluator.errors)
        if finished is None:
            return False
        self._done = finished.version
        step, result = self._step_of(finished.version), finished.evaluation
        self._short = [one for one in self._short if one[0] > finished.version]
        for line in result.warnings():
            print(f"evaluation: {line}", flush=True)
        self._metrics.add_many(
            {
                "eval/episodic_return": result.mean,
                "eval/episodic_return_std": result.std,
                "eval/episodic_length": result.mean_length,
                "eval/episodes": len(result.episodes),
                "eval/games_cut": result.cut,
                **({} if result.return_error is None else {"eval/return_error": result.return_error}),
                "eval/global_step": step,
                **level_metrics(result.level_returns, result.score_suite, "eval_levels", "suite"),
            }
        )
        if self._best is not None:
            about = {"episodes": len(result.episodes), "episodic_return": result.mean, "std": result.std}
            self._best.offer(step, _score(result), finished.weights, about)
        return True

    def _step_of(self, version: int) -> int:
        """Agent steps done when these weights were taken."""
        since = (self._now.updates - version) * self._steps_per_update
        return self._now.global_step - since + sum(fewer for after, fewer in self._short if after > version)

    def _note_short(self) -> None:
        (updates, step), now = self._seen, self._now
        self._seen = now.updates, now.global_step
        if fewer := (now.updates - updates) * self._steps_per_update - (now.global_step - step):
            self._short.append((now.updates, fewer))
