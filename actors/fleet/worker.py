"""The Ray actors that step envs: one process, E env slots, a copy of the policy.

What Ray is asked for, for each, is in placement.py. What they need besides Ray is imported when they start,
after they have said where they live: a node that lacks a package is known then.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import ray

from actors.fleet.nodes import Identity, UnfitNodeError, identity, unfitness
from actors.output import leave, make_output_last
from actors.weights import WeightSource
from configs.schema import Config, ConfigError

if TYPE_CHECKING:
    from actors.collect import Collector
    from actors.play.evaluate import Playing
    from actors.play.evaluator import Finished
    from actors.rollout import Rollout

EVALUATE_FOR_S = 5.0
"""Seconds after which an evaluation tells that it goes on."""


@ray.remote(max_restarts=0, max_task_retries=0)
class RolloutWorker:
    """Collects rollouts on request. It never restarts itself: the fleet starts a new incarnation.

    Calls are answered in order: `identity` first, so that the log of a process that dies while it makes its
    environments is known.
    """

    def __init__(
        self, config_json: str, source: WeightSource, actor_id: int, incarnation: int, first_stream: int
    ) -> None:
        make_output_last()
        atexit.register(leave)
        self._arguments = (config_json, source, actor_id, incarnation, first_stream)
        self._collector: Collector | None = None

    def identity(self) -> Identity:
        return identity()

    def start(self, versions: Mapping[str, str]) -> None:
        """Makes and resets the environments, once: an answer may be lost, and it is asked again.

        `versions`: of the learner's packages. Raises UnfitNodeError where this node has others.
        """
        if self._collector is not None:
            return
        config_json, source, actor_id, incarnation, first_stream = self._arguments
        config = Config.from_json(config_json)
        if faults := unfitness(config.env, versions):
            raise UnfitNodeError("; ".join(faults))
        try:
            import torch

            from actors.collect import check_device, make_collector

            check_device(config)
        except ImportError as error:
            raise UnfitNodeError(str(error)) from error
        except ConfigError as error:
            seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            raise UnfitNodeError(f"{error}; Ray lends this actor the GPUs {seen!r}") from error
        torch.set_num_threads(config.env.threads)
        self._collector = make_collector(config, source, actor_id, incarnation, first_stream=first_stream)

    def collect(self) -> Rollout:
        assert self._collector is not None, "start() comes first"
        return self._collector.collect()


@ray.remote(max_restarts=0, max_task_retries=0)
class EvaluationWorker:
    """Plays whole games by the newest weights, on request."""

    def __init__(self, config_json: str, source: WeightSource) -> None:
        import torch

        make_output_last()
        atexit.register(leave)
        self._config, self._source = Config.from_json(config_json), source
        threads = self._config.evaluator_threads
        self._config = replace(self._config, env=replace(self._config.env, num_threads=threads))
        torch.set_num_threads(threads)
        self._playing: Playing | None = None

    def play(self) -> Finished | None:
        """Begins an evaluation or goes on with it, for a while; None if it has to be asked to go on."""
        from actors.play.evaluate import play_newest
        from actors.play.evaluator import Finished

        playing = self._playing or play_newest(self._config, self._source)
        self._playing = playing
        pause = time.monotonic() + EVALUATE_FOR_S
        while playing.step():
            if time.monotonic() >= pause:
                return None
        playing.close()
        self._playing = None
        return Finished(playing.version, playing.result(), playing.weights)
