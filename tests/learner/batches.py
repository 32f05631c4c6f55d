"""Synthetic batches for the learner's tests: random content, stated episode ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from actors.policy.distributions import make_distribution
from configs.schema import Config, EnvConfig, PolicyConfig
from envs.spec import EnvSpec
from learner.batcher import Batch, StreamPiece
from learner.records.timing import Stopwatch

SPEC = EnvSpec(id="test", observation_shape=(3,), observation_dtype="float32", num_actions=4)
DISTRIBUTION = make_distribution(SPEC)


def config(**changes: object) -> Config:
    base = Config(
        env=EnvConfig(id="cartpole/masked"),
        policy=PolicyConfig(encoder="none", core="elstm", hidden_size=5),
        num_streams=3,
        unroll_length=6,
        batch_size=3,
    )
    return dataclasses.replace(base, **changes)


def random_batch(
    T: int,
    B: int,
    *,
    seed: int,
    ends: Sequence[tuple[int, int, str]] = (),
    first_reset: Sequence[int] = (),
    hidden_size: int = 5,
    dtype: torch.dtype = torch.float64,
    piece: tuple[int, int, int] = (0, 7, 0),
) -> Batch:
    """`ends`: (t, column, "terminated" or "truncated"): observation t ended an episode, t+1 begins one.
    `first_reset`: columns whose observation 0 begins one. `piece`: first stream, incarnation,
    sequence number."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    flags = {name: torch.zeros(T + 1, B, dtype=torch.bool) for name in ("terminated", "truncated", "reset")}
    for t, column, how in ends:
        flags[how][t, column] = True
        if t < T:
            flags["reset"][t + 1, column] = True
    flags["reset"][0, list(first_reset)] = True
    reward = normal(T + 1, B)
    reward[flags["reset"]] = 0.0
    return Batch(
        observation=normal(T + 1, B, *SPEC.observation_shape),
        reward=reward,
        **flags,
        action=torch.randint(SPEC.num_actions, (T, B), generator=g),
        behaviour_logits=normal(T, B, SPEC.num_actions),
        previous_action=torch.randint(SPEC.num_actions, (T + 1, B), generator=g),
        initial_state=(0.5 * normal(B, hidden_size),),
        streams=[StreamPiece(*piece, B)],
        episodes=[],
        policy_version_min=np.zeros(B, np.int64),
        wait_ms=0.0,
        joining_ms=0.0,
        copying=Stopwatch(torch.device("cpu")),
    )
