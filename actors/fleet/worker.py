"""The Ray actors that step envs: one process, E env slots, a copy of the policy on the CPU."""

from __future__ import annotations

import time

import ray
import torch

from actors.collect import Collector, make_collector
from actors.fleet.nodes import Identity, identity
from actors.output import make_output_last
from actors.play.evaluate import Playing, play_newest
from actors.play.evaluator import Finished
from actors.rollout import Rollout
from actors.weights import WeightSource
from configs.schema import Config


@ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)
class RolloutWorker:
    """Collects rollouts on request. It never restarts itself: the fleet starts a new incarnation.

    Calls are answered in order: `identity` first, so that the log of a process that dies while it makes its
    environments is known.
    """

    def __init__(self, config_json: str, source: WeightSource, actor_id: int, incarnation: int) -> None:
        make_output_last()
        self._arguments = (config_json, source, actor_id, incarnation)
        self._collector: Collector | None = None

    def identity(self) -> Identity:
        return identity()

    def start(self) -> None:
        """Makes and resets the environments."""
        config_json, source, actor_id, incarnation = self._arguments
        config = Config.from_json(config_json)
        torch.set_num_threads(config.env.num_threads)
        self._collector = make_collector(config, source, actor_id, incarnation)

    def collect(self) -> Rollout:
        assert self._collector is not None, "start() comes first"
        return self._collector.collect()


EVALUATE_FOR_S = 5.0
"""Seconds after which an evaluation tells that it goes on."""


@ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)
class EvaluationWorker:
    """Plays whole games by the newest weights, on request."""

    def __init__(self, config_json: str, source: WeightSource) -> None:
        make_output_last()
        self._config, self._source = Config.from_json(config_json), source
        torch.set_num_threads(self._config.env.num_threads)
        self._playing: Playing | None = None

    def play(self) -> Finished | None:
        """Begins an evaluation or goes on with it, for a while; None if it has to be asked to go on."""
        playing = self._playing or play_newest(self._config, self._source)
        self._playing = playing
        pause = time.monotonic() + EVALUATE_FOR_S
        while playing.step():
            if time.monotonic() >= pause:
                return None
        playing.close()
        self._playing = None
        return Finished(playing.version, playing.result(), playing.weights)
