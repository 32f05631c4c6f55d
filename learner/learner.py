"""One learner update: batch in, weights moved, traces carried on, metrics out.

    batch --objective (learner/objectives: V-trace, PPO)--> losses, one or many; for each of them
          --backward--> gradient --global-norm clip--> RMSprop or Adam (rate falls linearly to 0 over
          total_steps)

Nothing here waits for a GPU: `launch` gives it an update's work, `read` takes the numbers of an earlier one.
Whether a step was finite is decided on the device. One that was not moves nothing but the traces, nor does
any after it, until `read` comes to it and raises; and what traces hold then goes into no checkpoint.

With credit = "rtrl" the core's gradient is exact real-time recurrent learning for weights frozen
within the unroll. The traces carried between unrolls were accumulated under the weights of earlier
updates (and the recurrent state under the actors' weights): they are stale by that much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actors.policy import Policy
from actors.policy.precision import set_encoder_dtype
from actors.rollout import map_observation
from configs.error import require
from configs.learners import WHOLE, Part
from configs.schema import Config, ConfigError
from learner.batcher import Batch
from learner.kept import Kept
from learner.memory import naming_sizes
from learner.objectives import OBJECTIVES
from learner.optimizer import PolicyOptimizer
from learner.ranks import Alone, Ranks
from learner.records.timing import Stopwatch
from learner.report import Report
from learner.rewards import RewardNormaliser
from learner.rtrl.rtrl import Rtrl


class LearnerError(RuntimeError):
    """Training cannot go on: the loss or the gradient is not finite. That step moved no weight, nor did any
    after it."""


class Learner:
    """Owns the weights, the optimiser, the traces and the counters."""

    def __init__(
        self, policy: Policy, config: Config, device: torch.device, ranks: Ranks | None = None
    ) -> None:
        """`config`: of several `ranks` what this one has of streams and batch."""
        self.config, self.ranks = config, ranks or Alone()
        with naming_sizes(config, policy, device):
            self.policy = policy.to(device).train()
            set_encoder_dtype(self.policy, config.compute.encoder_dtype)
            self.rtrl = Rtrl(self.policy, config) if config.carries_traces else None
        if config.compute.compile_encoder:
            self.policy.encoder.compile(fullgraph=True)
        self.objective = OBJECTIVES[config.objective](self.policy, config, self.rtrl)
        self.rewards = None
        if config.normalise_rewards:
            self.rewards = RewardNormaliser(config.discounting, config.num_streams, device)
        self.device = device
        self.updates = 0
        """Batches learned from; also the version of the weights."""
        self.global_step = 0
        """Agent steps learned from, T * B an update, of all ranks."""
        self.optimizer = PolicyOptimizer(self.policy, config)
        self._moving = False
        self._sound = torch.ones((), dtype=torch.bool, device=device)
        """Every step so far was finite."""
        self._reports: deque[Report] = deque()

    @property
    def learning_rate(self) -> float:
        """At this step: falls linearly from the configured rate to 0 at total_steps."""
        return self.config.learning_rate * max(0.0, 1.0 - self.global_step / self.config.total_steps)

    @property
    def unread(self) -> int:
        """Updates that were launched and not read."""
        return len(self._reports)

    def update(self, batch: Batch) -> dict[str, float]:
        """One batch, launched and read."""
        self.launch(batch)
        return self.read()

    def launch(self, batch: Batch, steps: int | None = None) -> None:
        """Learns from one batch, by the gradient steps of the objective. Counts it as learned from; `read`
        tells what became of it. `steps`: of the batches of all ranks."""
        watch, report = Stopwatch(self.device), Report(self.updates, self.global_step)
        statistics = Kept(self._statistics())
        if self.rewards is not None:
            batch = self.rewards(batch, self.ranks.add_up)
        learning_rate = self.learning_rate
        for loss in self.objective.losses(batch, self.updates, watch):
            self.optimizer.zero_grad()
            loss.total.backward()
            watch.lap("backward")
            report.add(loss.finish())  # it measures this rank's own gradient
            total = loss.total.detach().clone()
            grad_norm = self._join(total)
            watch.lap("backward" if self.ranks.of == 1 else "sum")
            report.add_loss(loss, grad_norm, total)
            self._move(learning_rate, grad_norm)
            watch.lap("optimizer")
        report.add(self._observe(batch))
        statistics.restore_unless(self._sound)
        watch.lap("optimizer")
        lag = self.updates - batch.policy_version_min
        self.updates += 1
        self.global_step += batch.num_steps if steps is None else steps
        self._moving = False
        report.add(
            {
                "lag/policy_version_mean": float(lag.mean()),
                "lag/policy_version_max": float(lag.max()),
                "charts/learning_rate": learning_rate,
                "charts/updates": self.updates,
            }
        )
        report.send(watch)
        self._reports.append(report)

    def follow(self, steps: int) -> None:
        """Takes the step that other ranks have batches for, of so many agent steps; this one has none."""
        statistics = Kept(self._statistics())
        if self.rewards is not None:
            self.rewards.follow(self.ranks.add_up)
        self.optimizer.zero_grad()
        dtype = next(self.policy.parameters()).dtype
        self._move(self.learning_rate, self._join(torch.zeros((), dtype=dtype, device=self.device)))
        for observer in self.policy.observers():
            observer.follow(self.ranks.add_up)
        statistics.restore_unless(self._sound)
        self.updates += 1
        self.global_step += steps
        self._moving = False

    def _join(self, loss: Tensor) -> Tensor:
        """Sums the gradients of all ranks, and their losses. The norm of the sum, []."""
        if self.ranks.of > 1:  # the same bucket on all of them, whatever of the policy a batch reaches
            for weight in self.policy.parameters():
                if weight.requires_grad and weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
        gradients = self._gradients()
        self.ranks.add_up([loss, *gradients])
        norm = torch.nn.utils.get_total_norm(gradients)
        self._sound = self._sound & loss.isfinite() & norm.isfinite()
        return norm

    def _move(self, learning_rate: float, grad_norm: Tensor) -> None:
        self._moving = True
        torch.nn.utils.clip_grads_with_norm_(
            self.policy.parameters(), self.config.grad_norm_clipping, grad_norm
        )
        self.optimizer.step(learning_rate, self._sound)

    def read(self) -> dict[str, float]:
        """The metrics of `learner.records.metrics` that the oldest unread update can tell, means over its
        gradient steps. Waits until it is done.

        Raises LearnerError where a loss or its gradient was not finite. The updates launched since moved
        nothing either, and the counters go back to before that update.
        """
        report = self._reports.popleft()
        metrics, broken = report.read()
        if broken is None:
            return metrics
        self._reports.clear()
        self.updates, self.global_step = report.updates, report.global_step
        self._moving = broken > 0  # the steps before it in its batch stand
        self._sound = torch.ones_like(self._sound)
        raise LearnerError(report.error(broken))

    def _statistics(self) -> list[Tensor]:
        """What a batch moves beside the weights."""
        moments = [tensor for observer in self.policy.observers() for tensor in observer.statistics()]
        return moments + ([] if self.rewards is None else self.rewards.tensors())

    def _observe(self, batch: Batch) -> Mapping[str, Tensor]:
        """Takes the batch's observations into the policy's statistics, x_T not: it is the next x_0. The final
        one of an episode counts: it is seen like any other, and values bootstrap from it."""
        told: dict[str, Tensor] = {}
        seen = map_observation(lambda part: part[:-1], batch.observation)
        for observer in self.policy.observers():
            if (clipped := observer.take(seen, self.ranks.add_up)) is not None:
                told["normalise/observations_clipped"] = clipped
        if batch.reward_deviation is not None:
            told["normalise/return_deviation"] = batch.reward_deviation
        return told

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.policy.parameters() if p.grad is not None]

    # --- checkpoints ---------------------------------------------------------------------------

    def is_sound(self) -> bool:
        """Whether the weights are those of a whole update, and finite: worth a checkpoint after an error.
        Once every update was read."""
        weights = (tensor.cpu() for tensor in self.policy.state_dict().values())
        return not self._moving and all(bool(weight.isfinite().all()) for weight in weights)

    def state_dict(self) -> dict[str, Any]:
        """Nested tensors and plain numbers; no pickled objects. Every update must have been read."""
        assert not self._reports, "an update that is not finite would be saved"
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_name": self.config.optimizer,
            "traces": None if self.rtrl is None else self.rtrl.bank.state_dict(),
            "history": None if self.rtrl is None else self.rtrl.history_state(),
            "objective": self.objective.state_dict(),
            "rewards": None if self.rewards is None else self.rewards.state_dict(),
            "return_sums": None if self.rewards is None else self.rewards.streams_state(),
            "counters": {"updates": self.updates, "global_step": self.global_step},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Weights, statistics, optimiser and counters; what is a stream's is `load_traces`' part.

        Raises ConfigError for the state of another network or optimiser; nothing has changed then.
        """
        mine = {name: tuple(t.shape) for name, t in self.policy.state_dict().items()}
        theirs = {name: tuple(t.shape) for name, t in state["policy"].items()}
        if mine != theirs:
            name = sorted(set(mine.items()) ^ set(theirs.items()))[0][0]
            raise ConfigError(
                f"the checkpoint is of another network: {name} is {theirs.get(name, 'absent')} there and "
                f"{mine.get(name, 'absent')} here; resume with the policy and env settings of the saved run"
            )
        if state["optimizer_name"] != self.config.optimizer:
            raise ConfigError(
                f"optimizer = {self.config.optimizer!r}: the saved run used {state['optimizer_name']!r}, "
                "whose moments do not fit; resume with the same optimizer"
            )
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.rewards is not None and (rewards := state.get("rewards")) is not None:
            self.rewards.load_state_dict(rewards)
        self.updates, self.global_step = state["counters"]["updates"], state["counters"]["global_step"]
        self.objective.load_state_dict(state.get("objective", {}))  # absent from checkpoints of before

    def load_traces(self, state: dict[str, Any]) -> None:
        """And the history, and the streams' sums of rewards. Right only where the same streams go on."""
        if self.rtrl is not None and state["traces"] is not None:
            self.rtrl.bank.load_state_dict(state["traces"])
            self.rtrl.load_history(state.get("history"))
        if self.rewards is not None and (sums := state.get("return_sums")) is not None:
            self.rewards.load_streams(sums)


def resolve_device(name: str, part: Part = WHOLE) -> torch.device:
    """`auto` is the first GPU, else the CPU; a GPU becomes the current one of this process. Each of several
    learners has a GPU of its own.

    Raises ConfigError for a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if part.of == 1:
            return torch.device(name)
    if part.of > 1 and name != "cpu":
        gpus, remedy = torch.cuda.device_count(), "lower it, or set device = 'cpu'"
        require(gpus >= part.of, "num_learners", part.of, f"each needs a GPU, and there are {gpus}: {remedy}")
        name = f"cuda:{part.number}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        if device.type == "cuda":
            torch.cuda.set_device(device)  # pinned memory and library handles would go to the first one
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device = {name!r} cannot be used here ({error}); use auto or cpu") from error
    return device


def seed_everything(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
