"""V-trace in one Triton launch: a program walks back through time for a block of streams."""

# Triton types a launch, kernel[grid](...), as a call of the kernel's own Python function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.trace.triton import INTERPRETED, on_device_of, select_product
from kernels.vtrace.reference import MAX_LOG_RHO

__all__ = ["INTERPRETED", "vtrace_triton"]

BLOCK = 32  # streams a program: one warp, since a batch has few streams and steps follow one another
STAGES = 3
NO_CLIP = float("inf")
CEILING = tl.constexpr(MAX_LOG_RHO)


@triton.jit
def _clipped(rho, clip):
    return tl.minimum(rho, clip, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def vtrace_kernel(
    log_rhos,
    rewards,
    discounts,
    values,
    next_values,
    continues,  # int32, which is fetched ahead as a byte is not; all inputs [T, B]
    vs,
    pg_advantages,  # [T, B]
    clip_rho,
    clip_c,
    clip_pg_rho,
    lambda_,
    T,
    B,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    b = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = b < B
    correction = tl.zeros([BLOCK], tl.float32)  # vs - V of the step that follows
    following = tl.zeros([BLOCK], tl.float32)  # vs of the step that follows
    for back in tl.range(0, T, num_stages=STAGES):
        at = (T - 1 - back) * B + b
        rho = tl.exp(_clipped(tl.load(log_rhos + at, mask=inside, other=0.0), CEILING))
        reward = tl.load(rewards + at, mask=inside, other=0.0)
        discount = tl.load(discounts + at, mask=inside, other=0.0)
        value = tl.load(values + at, mask=inside, other=0.0)
        next_value = tl.load(next_values + at, mask=inside, other=0.0)
        # A selection, not a product with 0: what follows a cut may be anything, infinite included.
        goes_on = (tl.load(continues + at, mask=inside, other=0) != 0) & (back > 0)
        carried = tl.where(goes_on, discount * _clipped(rho, clip_c) * lambda_ * correction, 0.0)
        bootstrap = select_product(discount, next_value)
        correction = _clipped(rho, clip_rho) * (reward + bootstrap - value) + carried
        ahead = select_product(discount, tl.where(goes_on, following, next_value))
        advantage = _clipped(rho, clip_pg_rho) * (reward + ahead - value)
        following = value + correction
        tl.store(vs + at, following, mask=inside)
        tl.store(pg_advantages + at, advantage, mask=inside)


def vtrace_triton(
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
    T, B = values.shape
    vs, pg_advantages = values.new_empty(T, B), values.new_empty(T, B)
    clips = [NO_CLIP if clip is None else float(clip) for clip in (clip_rho, clip_c, clip_pg_rho)]
    inputs = [v.contiguous() for v in (log_rhos, rewards, discounts, values, next_values)]
    inputs.append(continues.to(torch.int32, memory_format=torch.contiguous_format))
    with on_device_of(values):
        vtrace_kernel[(-(-B // BLOCK),)](
            *inputs, vs, pg_advantages, *clips, float(lambda_), T, B,
            BLOCK=BLOCK, STAGES=STAGES, num_warps=1,
        )  # fmt: skip
    return vs, pg_advantages
