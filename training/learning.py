"""What learns, put together: the learner, the board of its weights, its actors, its evaluator; then the loop
over them.

Inline all of it is in the process of launch.py. With Ray it is in a rank's (rank.py), which the driver
starts anew where it fails (gang.py). Of several ranks each has all of it for its part of the streams, but for
the evaluator, which is the first one's.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from actors.fleet.fleet import make_fleet
from actors.play.evaluator import make_evaluator
from actors.policy import Policy
from actors.policy.precision import set_tf32
from configs.learners import Part, part_of
from configs.schema import Config
from envs.make import env_spec
from learner.learner import Learner, resolve_device, seed_everything
from learner.loop import StopFlag, TrainLoop
from learner.publish import make_publisher
from learner.ranks import Alone, Ranks
from learner.records.pretrained import take_weights
from learner.records.run_dir import RunDir
from learner.records.sinks import Sink
from learner.records.state import taking_up


class LearnerFailedError(RuntimeError):
    """A learner that Ray runs failed too often, or after a stop was asked. The message carries the last
    failure."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a training run ended, unless by an error."""

    reason: str
    global_step: int
    updates: int


class Learning:
    """A run from its first update, or from its newest checkpoint."""

    def __init__(
        self, config: Config, run_dir: Path | None, workers: ExitStack, ranks: Ranks | None = None
    ) -> None:
        """`config`: laid out, of the whole run. `run_dir`: of the run that goes on; None where one begins.
        Who acts is closed by `workers`. `ranks`: as this one among them sees them; None: it is the only one.

        Raises ConfigError for a checkpoint or weights that do not fit, CheckpointError for one that cannot be
        read, FleetError for actors that cannot act.
        """
        ranks = ranks or Alone()
        part, mine = Part(ranks.number, ranks.of), part_of(config)
        spec = env_spec(config.env)
        device = resolve_device(config.device, part)
        if config.learner_threads:
            torch.set_num_threads(config.learner_threads)
        set_tf32(config.compute, device)
        seed_everything(config.seed)
        self.config, self._frames_per_step = config, spec.frames_per_step
        self.learner = Learner(Policy(spec, config.policy), mine, device, ranks)
        self.loop: TrainLoop | None = None
        self._state: dict[str, Any] | None = None
        if run_dir is not None:
            self._state = RunDir.open(run_dir, exclusive=False).load_state()
            with taking_up(run_dir):
                self.learner.load_state_dict(self._state)
        else:
            take_weights(self.learner.policy, config.policy)
        self._publisher = make_publisher(config.runtime)
        workers.callback(self._publisher.close)
        self._publisher.publish(self.learner.policy, self.learner.updates)
        step = self.learner.global_step
        self.fleet = make_fleet(mine, self._publisher.source, start_step=step, part=part)
        workers.callback(self.fleet.close)
        self._evaluator = make_evaluator(config, self._publisher.source) if part.number == 0 else None
        if self._evaluator is not None:
            workers.callback(self._evaluator.close)

    def run(self, checkpoints: Path, sink: Sink, stop: StopFlag) -> Ending:
        """Trains to the end. Raises as `TrainLoop.run`."""
        self.loop = TrainLoop(
            self.config,
            self.learner,
            self.fleet,
            self._publisher,
            sink,
            checkpoints,
            frames_per_step=self._frames_per_step,
            stop=stop,
            evaluator=self._evaluator,
        )
        if self._state is not None:
            with taking_up(checkpoints.parent):
                self.loop.resume(self._state)
            self._state = None
        self.fleet.obey(checkpoints.parent)
        return Ending(self.loop.run(), self.learner.global_step, self.learner.updates)
