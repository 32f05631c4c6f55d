"""What `benchmarks.learner_step` steps: learners of the real kind, fed with synthetic rollouts.

The rollouts are `actors.rollout.Rollout`s, one env slot an actor, joined by the real batcher. Each stream
goes on from batch to batch, as in training, so that RTRL carries its traces. What is random is the content.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch

from actors.policy import Policy
from actors.rollout import Rollout
from configs.schema import ComputeConfig, Config, Credit, Encoder, EnvConfig, PolicyConfig
from envs.spec import EnvSpec
from learner.batcher import Batch, Batcher
from learner.learner import Learner, seed_everything

EPISODE_END = 0.005
"""Probability a step that an episode ends there."""


BY_DEFAULT = ComputeConfig()


class Size(NamedTuple):
    T: int
    B: int
    N: int
    encoder: Encoder
    frame: int = 84
    """Height and width of an observation; four frames of uint8 are stacked. Unused by the encoder "mlp"."""

    def spec(self) -> EnvSpec:
        """Like Breakout's, or, for the encoder "mlp", a vector."""
        shape, dtype = ((16,), "float32") if self.encoder == "mlp" else ((4, self.frame, self.frame), "uint8")
        return EnvSpec(id="synthetic", observation_shape=shape, observation_dtype=dtype, num_actions=4)


def config(size: Size, credit: Credit, compute: ComputeConfig = BY_DEFAULT) -> Config:
    """The paper's optimiser and loss. RTRL's diagnostics fall on the first update, and on no other."""
    return Config(
        env=EnvConfig(id="synthetic"),
        policy=PolicyConfig(encoder=size.encoder, core="elstm", hidden_size=size.N),
        compute=compute,
        num_streams=size.B,
        unroll_length=size.T,
        batch_size=size.B,
        credit=credit,
        diagnostics_interval=1_000_000,
    )


def make_learner(
    size: Size,
    credit: Credit,
    device: torch.device,
    seed: int = 1,
    compute: ComputeConfig = BY_DEFAULT,
) -> Learner:
    """The same weights whatever the credit and how it is computed."""
    settings = config(size, credit, compute)
    seed_everything(seed)
    return Learner(Policy(size.spec(), settings.policy), settings, device)


class Rollouts:
    """The streams of B actors; each batch holds their next rollouts. Also a fleet that never lets wait."""

    def __init__(self, size: Size, device: torch.device, seed: int = 1) -> None:
        self._batcher = Batcher(config(size, "rtrl"), device)
        rng = np.random.default_rng(seed)
        self._rollouts = [_rollout(size, actor_id, rng) for actor_id in range(size.B)]
        self._given = 0

    def next_rollout(self, timeout_s: float = 0.0, skip: Collection[int] = ()) -> Rollout:
        """Of one actor after the other."""
        number, actor_id = divmod(self._given, len(self._rollouts))
        self._given += 1
        return dataclasses.replace(self._rollouts[actor_id], sequence_number=number)

    def next_batch(self) -> Batch:
        for _ in self._rollouts:
            self._batcher.add(self.next_rollout(), 0)
        batch = self._batcher.next_batch()
        assert batch is not None and not len(self._batcher)
        return batch


def _rollout(size: Size, actor_id: int, rng: np.random.Generator) -> Rollout:
    T, spec = size.T, size.spec()
    shape = (T + 1, 1, *spec.observation_shape)
    ended = rng.random((T + 1, 1)) < EPISODE_END
    reset = np.zeros((T + 1, 1), np.bool_)
    reset[1:] = ended[:-1]
    ended &= ~reset
    reset[1:] = ended[:-1]
    pixels = spec.observation_dtype == "uint8"
    noise = rng.integers(256, size=shape) if pixels else rng.standard_normal(shape)
    rollout = Rollout(
        observation=noise.astype(spec.observation_dtype),
        reward=rng.standard_normal((T + 1, 1)).astype(np.float32),
        terminated=ended,
        truncated=np.zeros((T + 1, 1), np.bool_),
        reset=reset,
        action=rng.integers(spec.num_actions, size=(T, 1)),
        behaviour_logits=0.1 * rng.standard_normal((T, 1, spec.num_actions)).astype(np.float32),
        previous_action=np.zeros(1, np.int64),
        initial_state=(0.5 * rng.standard_normal((1, size.N)).astype(np.float32),),
        actor_id=actor_id,
        first_stream=actor_id,
        incarnation=1,
        sequence_number=0,
        policy_version_min=0,
        policy_version_max=0,
    )
    rollout.validate()
    return rollout
