"""Evaluations beside training: the newest weights play whole games, on envs and randomness of their own.

Inline an evaluation holds the training up; through Ray a worker of its own plays while training goes on.
Either way the training streams do not notice. One evaluation runs at a time. None has a time limit: it may
take as long as it goes on, and a worker that no longer does is replaced.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from actors.play.evaluate import check_evaluation, evaluation_seed, level_choice, play_newest
from actors.play.evaluation import Evaluation
from actors.weights import WeightSource
from configs.schema import Config

TELL_EVERY_S = 30.0
"""Seconds between two lines on an evaluation that training waits for."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An evaluation, and the weights that it played with."""

    version: int
    evaluation: Evaluation
    weights: dict[str, NDArray[Any]]


class Evaluator(Protocol):
    errors: int
    """Evaluations that failed; their errors are printed."""

    def request(self, global_step: int, stopped: Callable[[], bool]) -> bool:
        """Asks for an evaluation of the newest weights; False, and nothing asked, while one is under way.

        `global_step`, of the learner now, names it in messages. One that holds the training up is given up as
        soon as `stopped` says so.
        """
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

    def request(self, global_step: int, stopped: Callable[[], bool]) -> bool:
        try:
            self._finished = self._play(global_step, stopped)
        except Exception as error:  # whatever an env's own code raises must not end the training
            self.errors += 1
            print(f"the evaluation at step {global_step} failed: {error!r}", flush=True)
        return True

    def _play(self, global_step: int, stopped: Callable[[], bool]) -> Finished | None:
        playing = play_newest(self._config, self._source)
        told = time.monotonic()
        try:
            while playing.step():
                if stopped():
                    print(
                        f"the evaluation at step {global_step} is given up after {playing.progress}: "
                        "the run ends",
                        flush=True,
                    )
                    return None
                if time.monotonic() - told >= TELL_EVERY_S:
                    told = time.monotonic()
                    print(f"evaluation at step {global_step}: {playing.progress}", flush=True)
        finally:
            playing.close()
        return Finished(playing.version, playing.result(), playing.weights)

    def finished(self, timeout_s: float = 0.0) -> Finished | None:
        finished, self._finished = self._finished, None
        return finished

    def close(self) -> None:
        pass


class RayEvaluator:
    """Plays in a Ray worker, which is started for the first evaluation, and again after a failure.

    The worker plays a few seconds at a time and then answers, so that one which hangs is known by its
    silence, however long a whole evaluation takes.
    """

    def __init__(self, config: Config, source: WeightSource) -> None:
        import ray  # the inline runtime works without Ray installed

        from actors.fleet.placement import resources
        from actors.fleet.worker import EvaluationWorker

        self._ray: Any = ray
        worker_class: Any = EvaluationWorker  # ray.remote has made it one, which no type says
        self._worker_class = worker_class.options(**resources(config, config.evaluator_threads))
        self._arguments = (config.to_json(), source)
        self._time_limit_s = config.ray.rollout_timeout_s
        self._worker: Any = None
        self._pending: Any = None
        self._step, self._since = 0, 0.0
        self.errors = 0

    def request(self, global_step: int, stopped: Callable[[], bool]) -> bool:
        if self._pending is not None:
            return False
        if self._worker is None:
            self._worker = self._worker_class.remote(*self._arguments)
        self._step = global_step
        self._go_on()
        return True

    def _go_on(self) -> None:
        self._pending = self._worker.play.remote()
        self._since = time.monotonic()

    def finished(self, timeout_s: float = 0.0) -> Finished | None:
        if self._pending is None:
            return None
        ready, _ = self._ray.wait([self._pending], timeout=timeout_s)
        if not ready:
            if time.monotonic() - self._since > self._time_limit_s:
                self._fail(f"no step of it within ray.rollout_timeout_s = {self._time_limit_s:g}")
            return None
        try:
            finished: Any = self._ray.get(self._pending)
        except self._ray.exceptions.RayError as error:
            self._fail(error)
            return None
        if finished is None:
            self._go_on()
            return None
        self._pending = None
        return finished

    def _fail(self, error: object) -> None:
        self.errors += 1
        print(f"the evaluation at step {self._step} failed: {error}", flush=True)
        self.close()

    def close(self) -> None:
        if self._worker is not None:
            self._ray.kill(self._worker, no_restart=True)
        self._worker = self._pending = None


def make_evaluator(config: Config, source: WeightSource) -> Evaluator | None:
    """None where no evaluation during training is asked for; else says what they will play.

    Raises ConfigError for fewer games than levels.
    """
    options = config.eval
    if options.interval_steps == 0:
        return None
    check_evaluation(config)
    print(
        f"every {options.interval_steps:,} steps an evaluation: {options.episodes} games, "
        f"{'greedy' if options.greedy else 'sampled'}, levels {level_choice(config)}, "
        f"seed {evaluation_seed(config)}",
        flush=True,
    )
    return RayEvaluator(config, source) if config.runtime == "ray" else InlineEvaluator(config, source)
