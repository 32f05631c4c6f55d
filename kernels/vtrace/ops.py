"""V-trace as a torch.library op, opaque to torch.compile and to CUDA-graph capture alike."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.vtrace.reference import vtrace_reference


@torch.library.custom_op(
    "evertrace::vtrace",
    mutates_args=(),
    schema="(Tensor log_rhos, Tensor rewards, Tensor discounts, Tensor values, Tensor next_values, "
    "Tensor continues, float? clip_rho, float? clip_c, float? clip_pg_rho, float lambda_, str backend) "
    "-> (Tensor, Tensor)",
)
def vtrace_op(
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
    backend: str,
) -> tuple[Tensor, Tensor]:
    inputs = (log_rhos, rewards, discounts, values, next_values, continues)
    if backend == "triton":
        from kernels.vtrace.triton import vtrace_triton

        return vtrace_triton(*inputs, clip_rho, clip_c, clip_pg_rho, lambda_)
    assert backend == "reference", backend
    return vtrace_reference(*inputs, clip_rho, clip_c, clip_pg_rho, lambda_)


@vtrace_op.register_fake
def _(log_rhos: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return torch.empty_like(log_rhos), torch.empty_like(log_rhos)
