"""V-trace by its backward recursion (IMPALA, remark 1), one time step after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.trace.reference import select_product

MAX_LOG_RHO = 20.0
"""A ratio counts as e^20 at most, clip or no clip: with none, one of e^89 is infinite in float32, and so is
the loss. What is bounded is far past any use: one such step weighs as 5e8 others."""


def importance_ratio(log_rhos: Tensor) -> Tensor:
    """pi / mu, at most e^MAX_LOG_RHO."""
    return log_rhos.clamp(max=MAX_LOG_RHO).exp()


def _clipped(rhos: Tensor, clip: float | None) -> Tensor:
    return rhos if clip is None else rhos.clamp(max=clip)


def vtrace_reference(
    log_rhos: Tensor,
    rewards: Tensor,
    discounts: Tensor,
    values: Tensor,
    next_values: Tensor,
    continues: Tensor,
    clip_rho: float | None,
    clip_c: float | None,
    clip_pg_rho: float | None,
    lambda_: float,
) -> tuple[Tensor, Tensor]:
    """Same arguments as `kernels.vtrace.vtrace`; returns vs and pg_advantages, both [T, B]."""
    rhos = importance_ratio(log_rhos)
    # A terminal state, of discount 0, is worth 0 whatever the network says of it: by selection too.
    deltas = _clipped(rhos, clip_rho) * (rewards + select_product(discounts, next_values) - values)
    decays = discounts * _clipped(rhos, clip_c) * lambda_

    corrections = torch.empty_like(values)  # vs - V
    correction = torch.zeros_like(values[0])
    for t in reversed(range(values.shape[0])):
        # A selection, not a product with 0: what follows a cut may be anything, infinite included.
        correction = deltas[t] + torch.where(continues[t], decays[t] * correction, 0)
        corrections[t] = correction
    vs = values + corrections

    # The target of the state that action t led to: its own V-trace target where the episode goes on.
    next_vs = next_values.clone()
    next_vs[:-1] = torch.where(continues[:-1], vs[1:], next_values[:-1])
    pg_advantages = _clipped(rhos, clip_pg_rho) * (rewards + select_product(discounts, next_vs) - values)
    return vs, pg_advantages
