"""One learner update: batch in, weights moved, traces carried on, metrics out.

    batch --objective (learner/objectives: V-trace, PPO)--> losses, one or many; for each of them
          --backward--> gradient --global-norm clip--> RMSprop or Adam (rate falls linearly to 0 over
          total_steps)

With credit = "rtrl" the core's gradient is exact real-time recurrent learning for weights frozen
within the unroll. The traces carried between unrolls were accumulated under the weights of earlier
updates (and the recurrent state under the actors' weights): they are stale by that much.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actors.policy import Policy
from actors.rollout import map_observation
from configs.schema import Config, ConfigError
from learner.batcher import Batch
from learner.memory import naming_sizes
from learner.objectives import OBJECTIVES, Loss
from learner.optimizer import PolicyOptimizer
from learner.records.timing import Stopwatch
from learner.rewards import RewardNormaliser
from learner.rtrl.rtrl import Rtrl


class LearnerError(RuntimeError):
    """Training cannot go on: the loss or the gradient is not finite. That step moved no weight."""


class Learner:
    """Owns the weights, the optimiser, the traces and the counters."""

    def __init__(self, policy: Policy, config: Config, device: torch.device) -> None:
        self.config = config
        with naming_sizes(config, policy, device):
            self.policy = policy.to(device).train()
            self.rtrl = Rtrl(self.policy, config) if config.carries_traces else None
        self.objective = OBJECTIVES[config.objective](self.policy, config, self.rtrl)
        self.rewards = None
        if config.normalise_rewards:
            self.rewards = RewardNormaliser(config.discounting, config.num_streams, device)
        self.device = device
        self.updates = 0
        """Batches learned from; also the version of the weights."""
        self.global_step = 0
        """Agent steps learned from, T * B an update."""
        self.optimizer = PolicyOptimizer(self.policy, config)
        self._moving = False

    @property
    def learning_rate(self) -> float:
        """At this step: falls linearly from the configured rate to 0 at total_steps."""
        return self.config.learning_rate * max(0.0, 1.0 - self.global_step / self.config.total_steps)

    def update(self, batch: Batch) -> dict[str, float]:
        """One batch, by the gradient steps of the objective. Returns the metrics of `learner.records.metrics`
        that it can tell: means over these steps.

        Raises LearnerError, before that step moves any weight, where a loss or its gradient is not finite.
        """
        watch = Stopwatch(self.device)
        if self.rewards is not None:
            batch = self.rewards(batch)
        learning_rate = self.learning_rate
        told: list[Tensor] = []
        names: tuple[str, ...] = ()
        metrics: dict[str, float] = {}
        for loss in self.objective.losses(batch, self.updates, watch):
            self.optimizer.zero_grad()
            loss.total.backward()
            grad_norm = torch.nn.utils.get_total_norm(self._gradients())
            watch.lap("backward")
            self._require_finite(loss, grad_norm)
            metrics |= loss.finish()
            self._moving = True
            torch.nn.utils.clip_grads_with_norm_(
                self.policy.parameters(), self.config.grad_norm_clipping, grad_norm
            )
            self.optimizer.step(learning_rate)
            watch.lap("optimizer")
            names = (*loss.metrics, "losses/grad_norm")
            told.append(torch.stack([*loss.metrics.values(), grad_norm]))
        metrics |= self._observe(batch)
        watch.lap("optimizer")
        lag = self.updates - batch.policy_version_min
        self.updates += 1
        self.global_step += batch.num_steps
        self._moving = False
        means = torch.stack(told).mean(0).tolist()  # one transfer from the device
        return {
            **dict(zip(names, means, strict=True)),
            **metrics,
            **watch.metrics(),
            "lag/policy_version_mean": float(lag.mean()),
            "lag/policy_version_max": float(lag.max()),
            "charts/learning_rate": learning_rate,
            "charts/updates": self.updates,
        }

    def _observe(self, batch: Batch) -> dict[str, float]:
        """Takes the batch's observations into the policy's statistics, x_T not: it is the next x_0. The final
        one of an episode counts: it is seen like any other, and values bootstrap from it."""
        told: dict[str, float] = {}
        if (normaliser := self.policy.normaliser) is not None:
            seen = map_observation(lambda part: part[:-1], batch.observation)
            told["normalise/observations_clipped"] = float(normaliser.take(seen))
        if batch.reward_deviation is not None:
            told["normalise/return_deviation"] = float(batch.reward_deviation)
        return told

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.policy.parameters() if p.grad is not None]

    def _require_finite(self, loss: Loss, grad_norm: Tensor) -> None:
        total, norm = loss.total.item(), grad_norm.item()
        if not (math.isfinite(total) and math.isfinite(norm)):
            parts = (f"{name.partition('/')[2]} {float(value)}" for name, value in loss.metrics.items())
            raise LearnerError(
                f"update {self.updates} at step {self.global_step}: loss {total}, gradient norm {norm} "
                f"({', '.join(parts)}); lower learning_rate or grad_norm_clipping, and check the env's "
                "rewards and observations"
            )

    # --- checkpoints ---------------------------------------------------------------------------

    def is_sound(self) -> bool:
        """Whether the weights are those of a whole update, and finite: worth a checkpoint after an error."""
        weights = (tensor.cpu() for tensor in self.policy.state_dict().values())
        return not self._moving and all(bool(weight.isfinite().all()) for weight in weights)

    def state_dict(self) -> dict[str, Any]:
        """Nested tensors and plain numbers; no pickled objects."""
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
        for name, value in state["counters"].items():
            setattr(self, name, int(value))
        self.objective.load_state_dict(state.get("objective", {}))  # absent from checkpoints of before

    def load_traces(self, state: dict[str, Any]) -> None:
        """And the history, and the streams' sums of rewards. Right only where the same streams go on."""
        if self.rtrl is not None and state["traces"] is not None:
            self.rtrl.bank.load_state_dict(state["traces"])
            self.rtrl.load_history(state.get("history"))
        if self.rewards is not None and (sums := state.get("return_sums")) is not None:
            self.rewards.load_streams(sums)


def resolve_device(name: str) -> torch.device:
    """`auto` is the first GPU, else the CPU; a GPU becomes the current one of this process.

    Raises ConfigError for a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
