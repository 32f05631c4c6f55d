"""When the newest weights are evaluated while training goes on, and what becomes of the results."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Protocol

from learner.records.metrics import SUITE_PREFIX, Metrics


class Evaluation(Protocol):
    """What is logged of one (actors/play/evaluate.py)."""

    @property
    def episodes(self) -> Sized: ...
    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...
    @property
    def mean_length(self) -> float: ...
    @property
    def score_suite(self) -> str | None: ...
    @property
    def scores(self) -> dict[str, float]: ...


class Finished(Protocol):
    @property
    def global_step(self) -> int: ...
    @property
    def evaluation(self) -> Evaluation: ...


class Evaluator(Protocol):
    """Who plays the games (actors/play/evaluator.py)."""

    @property
    def errors(self) -> int: ...

    def request(self, global_step: int) -> bool: ...

    def finished(self, timeout_s: float = 0.0) -> Finished | None: ...


class Evaluations:
    """One every `interval_steps` agent steps, or as often as they can be played; a last one at the end."""

    def __init__(self, evaluator: Evaluator, interval_steps: int, global_step: int, metrics: Metrics) -> None:
        self._evaluator, self._interval, self._metrics = evaluator, interval_steps, metrics
        self._last = global_step // interval_steps
        self._done = -1

    def poll(self, global_step: int) -> None:
        """After every update: asks for an evaluation that is due, and takes one that is done."""
        if global_step // self._interval > self._last and self._evaluator.request(global_step):
            self._last = global_step // self._interval
        self._take(0.0)

    def finish(self, global_step: int, stopped: Callable[[], bool]) -> None:
        """At the end of the training, by the weights of `global_step`; waits, unless asked to stop."""
        requested = False
        while self._done != global_step and not stopped():
            errors = self._evaluator.errors
            requested = requested or self._evaluator.request(global_step)
            self._take(0.5)
            if requested and self._evaluator.errors > errors:
                return

    def _take(self, timeout_s: float) -> None:
        """Metrics of an evaluation that is done."""
        finished = self._evaluator.finished(timeout_s)
        self._metrics.add("faults/eval_errors", self._evaluator.errors)
        if finished is None:
            return
        self._done = finished.global_step
        result = finished.evaluation
        self._metrics.add_many(
            {
                "eval/episodic_return": result.mean,
                "eval/episodic_return_std": result.std,
                "eval/episodic_length": result.mean_length,
                "eval/episodes": len(result.episodes),
                "eval/global_step": finished.global_step,
                **{f"{SUITE_PREFIX}{result.score_suite}/{k}": score for k, score in result.scores.items()},
            }
        )
