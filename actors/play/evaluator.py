"""Evaluations beside training: the newest weights play whole games, on envs and randomness of their own.

Inline an evaluation holds the training up; through Ray a worker of its own plays while training goes on.
Either way the training streams do not notice. One evaluation runs at a time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

from actors.play.evaluate import Evaluation, evaluate_source
from actors.weights import WeightSource
from configs.schema import Config


@dataclass(frozen=True, slots=True)
class Finished:
    """An evaluation, and the agent steps after which its weights were taken."""

    global_step: int
    evaluation: Evaluation


class Evaluator(Protocol):
    errors: int
    """Evaluations that failed; their errors are printed."""

    def request(self, global_step: int) -> bool:
        """Asks for an evaluation of the newest weights; False, and nothing asked, while one is under way."""
        ...

    def finished(self, timeout_s: float = 0.0) -> Finished | None:
        """The evaluation that was asked for, once; None if it is not done, or has failed, or none was."""
        ...

    def close(self) -> None: ...


class InlineEvaluator:
    """Plays in this process, at once."""

    def __init__(self, config: Config, source: WeightSource) -> None:
        self._config, self._source = config, source
        self._finished: Finished | None = None
        self.errors = 0

    def request(self, global_step: int) -> bool:
        try:
            self._finished = Finished(global_step, evaluate_source(self._config, self._source))
        except Exception as error:  # whatever an env's own code raises must not end the training
            self.errors += 1
            print(f"the evaluation at step {global_step} failed: {error!r}", flush=True)
        return True

    def finished(self, timeout_s: float = 0.0) -> Finished | None:
        finished, self._finished = self._finished, None
        return finished

    def close(self) -> None:
        pass


class RayEvaluator:
    """Plays in a Ray worker, which is started for the first evaluation, and again after a failure."""

    def __init__(self, config: Config, source: WeightSource) -> None:
        import ray  # the inline runtime works without Ray installed

        from actors.fleet.worker import EvaluationWorker

        self._ray: Any = ray
        self._worker_class = EvaluationWorker
        self._arguments = (config.to_json(), source)
        self._time_limit_s = config.ray.rollout_timeout_s
        self._worker: Any = None
        self._pending: Any = None
        self._step, self._since = 0, 0.0
        self.errors = 0

    def request(self, global_step: int) -> bool:
        if self._pending is not None:
            return False
        if self._worker is None:
            self._worker = self._worker_class.remote(*self._arguments)
        self._pending = self._worker.evaluate.remote()
        self._step, self._since = global_step, time.monotonic()
        return True

    def finished(self, timeout_s: float = 0.0) -> Finished | None:
        if self._pending is None:
            return None
        ready, _ = self._ray.wait([self._pending], timeout=timeout_s)
        if not ready:
            if time.monotonic() - self._since > self._time_limit_s:
                self._fail(f"it took longer than ray.rollout_timeout_s = {self._time_limit_s:g}")
            return None
        try:
            evaluation: Any = self._ray.get(self._pending)
        except self._ray.exceptions.RayError as error:
            self._fail(error)
            return None
        self._pending = None
        return Finished(self._step, evaluation)

    def _fail(self, error: object) -> None:
        self.errors += 1
        print(f"the evaluation at step {self._step} failed: {error}", flush=True)
        self.close()

    def close(self) -> None:
        if self._worker is not None:
            self._ray.kill(self._worker, no_restart=True)
        self._worker = self._pending = None


def make_evaluator(config: Config, source: WeightSource) -> Evaluator | None:
    """None where no evaluation during training is asked for."""
    if config.eval.interval_steps == 0:
        return None
    return RayEvaluator(config, source) if config.runtime == "ray" else InlineEvaluator(config, source)
