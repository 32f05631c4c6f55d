"""V-trace targets and policy-gradient advantages.

Espeholt et al., "IMPALA: Scalable Distributed Deep-RL with Importance Weighted Actor-Learner
Architectures", ICML 2018 (arXiv 1802.01561), section 4.1; over episode ends as README.md derives.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kernels.vtrace.ops import vtrace_op
from kernels.vtrace.reference import MAX_LOG_RHO, importance_ratio

Backend = Literal["auto", "reference", "triton"]


class VTraceReturns(NamedTuple):
    """Both [T, B], without gradient."""

    vs: Tensor
    """Targets of the value function."""
    pg_advantages: Tensor
    """Weights of grad log pi, the policy-gradient importance weight included."""


def vtrace(
    log_rhos: Tensor,
    rewards: Tensor,
    discounts: Tensor,
    values: Tensor,
    next_values: Tensor,
    continues: Tensor,
    clip_rho: float | None = 1.0,
    clip_c: float | None = 1.0,
    clip_pg_rho: float | None = 1.0,
    lambda_: float = 1.0,
    backend: Backend = "auto",
) -> VTraceReturns:
    """V-trace over T steps of B streams; all inputs [T, B], float32 or float64, `continues` bool.

    log_rhos: log pi(a_t | x_t) - log mu(a_t | x_t), target over behaviour policy.
    rewards[t], discounts[t]: what action t earned, and gamma, or 0 if it ended in a terminal state.
    values[t] = V(x_t); next_values[t] = V(x_{t+1}), bootstrapped from where step t+1 is not used.
    continues[t]: step t+1 belongs to the same episode and counts. False cuts the recursion after step
    t, whose target then rests on next_values[t] alone: a truncated episode bootstraps, a terminated
    one (discount 0) does not, and nothing of step t+1 reaches back.

    clip_rho (rho-bar, of the temporal differences), clip_c (c-bar, of the traces), clip_pg_rho (of the
    advantages): None switches the clip off. A ratio counts as e^20 at most, with a clip or without, so that
    one wild step leaves the result finite (`importance_ratio`). lambda_ in [0, 1] multiplies c, as SEED RL
    does.

    backend: "reference" (torch, a loop over T), "triton" (float32 on a GPU, one launch), or "auto": triton
    where it can run, else reference.

    No gradient flows through the result. Raises ValueError, naming the argument.
    """
    if log_rhos.ndim != 2 or log_rhos.shape[0] < 1:
        raise ValueError(f"log_rhos has shape {list(log_rhos.shape)}, expected [T, B] with T >= 1")
    if log_rhos.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"log_rhos is {log_rhos.dtype}: V-trace computes in float32 or float64")
    for name, tensor, dtype in (
        ("rewards", rewards, log_rhos.dtype),
        ("discounts", discounts, log_rhos.dtype),
        ("values", values, log_rhos.dtype),
        ("next_values", next_values, log_rhos.dtype),
        ("continues", continues, torch.bool),
    ):
        if tensor.shape != log_rhos.shape:
            raise ValueError(f"{name} has shape {list(tensor.shape)}, log_rhos {list(log_rhos.shape)}")
        if tensor.dtype != dtype:
            raise ValueError(f"{name} is {tensor.dtype}, expected {dtype}")
        if tensor.device != log_rhos.device:
            raise ValueError(f"{name} is on {tensor.device}, log_rhos on {log_rhos.device}")
    for name, clip in (("clip_rho", clip_rho), ("clip_c", clip_c), ("clip_pg_rho", clip_pg_rho)):
        if clip is not None and not clip > 0:
            raise ValueError(f"{name} = {clip!r}: must be positive, or None for no clip")
    if not 0 <= lambda_ <= 1:
        raise ValueError(f"lambda_ = {lambda_!r}: lies in [0, 1]")
    chosen = _choose_backend(backend, log_rhos)
    inputs = [t.detach() for t in (log_rhos, rewards, discounts, values, next_values, continues)]
    return VTraceReturns(*vtrace_op(*inputs, clip_rho, clip_c, clip_pg_rho, lambda_, chosen))


def _choose_backend(backend: str, like: Tensor) -> str:
    if backend == "auto":
        return "triton" if like.is_cuda and like.dtype == torch.float32 else "reference"
    if backend not in ("reference", "triton"):
        raise ValueError(f"backend = {backend!r}: choose one of 'auto', 'reference', 'triton'")
    if backend == "triton":
        from kernels.vtrace.triton import INTERPRETED

        if like.dtype != torch.float32:
            raise ValueError(f"log_rhos is {like.dtype}: backend 'triton' computes in float32")
        if not like.is_cuda and not INTERPRETED:
            raise ValueError(f"log_rhos is on {like.device}: backend 'triton' needs a GPU")
    return backend


__all__ = ["MAX_LOG_RHO", "Backend", "VTraceReturns", "importance_ratio", "vtrace"]
