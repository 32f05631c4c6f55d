"""Boundary term and advance of the trace in one Triton launch: each tile is read once and written once."""

# Triton types a launch, kernel[grid](...), as a call of the kernel's own Python function.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction


@triton.jit
def select_product(factor, value):
    """factor * value, and 0 where the factor is 0: so a reset also erases a trace that is not finite."""
    return factor * tl.where(factor == 0, 0.0, value)


@triton.jit
def advance_trace_kernel(
    matrices,  # [rows, K, d, N, PADDED], advanced in place
    rows,  # [B] int64
    lam,  # [B, L, d, N]
    decay,  # [B, d, d, N], by its stride over B
    update,  # [T, B, d, K, N], by its strides
    x,  # [T, B, D]
    boundary,  # [SPLITS, K, L, N, D]: one partial sum for each share of the batch
    T,
    B,
    N,
    D,
    PADDED,
    decay_b,
    update_t,
    update_b,
    update_i,
    COLUMNS: tl.constexpr,  # batch columns of one share
    K: tl.constexpr,
    L: tl.constexpr,  # contractions of one stored matrix; 0: the advance alone
    STATE: tl.constexpr,  # d
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_T: tl.constexpr,
    ONE_STEP: tl.constexpr,  # T == 1: an outer product in the place of a matrix product
    PRECISION: tl.constexpr,
):
    # Neighbours in the launch order share a row's inputs, so that these stay in the L2 cache.
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    i = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    k = tl.program_id(2) % K
    split = tl.program_id(2) // K
    in_n, in_d = n < N, i < D
    tile = n[:, None] * PADDED + i[None, :]
    in_tile = in_n[:, None] & in_d[None, :]

    zero = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    sum_0, sum_1 = zero, zero
    for b in range(split * COLUMNS, min(split * COLUMNS + COLUMNS, B)):
        at = matrices + (tl.load(rows + b) * K + k) * (STATE * N * PADDED) + tile
        a = tl.load(decay + b * decay_b + n, mask=in_n, other=0.0)
        lam_b = lam + b * (L * STATE * N) + n
        if STATE == 1:
            # A trace that a reset erases is not read: 0 * inf is NaN. One select on what was read takes 12
            # registers more, and then one program fits a multiprocessor where two did.
            needed = a != 0
            if L >= 1:
                first = tl.load(lam_b, mask=in_n, other=0.0)
                needed = needed | (first != 0)
            re = tl.load(at, mask=in_tile & needed[:, None], other=0.0).to(tl.float32)
            if L >= 1:
                sum_0 += first[:, None] * re  # pyright: ignore
            if L == 2:
                sum_1 += select_product(tl.load(lam_b + N, mask=in_n, other=0.0)[:, None], re)
            new = a[:, None] * re
        else:
            at_im = at + N * PADDED
            re = tl.load(at, mask=in_tile, other=0.0).to(tl.float32)
            im = tl.load(at_im, mask=in_tile, other=0.0).to(tl.float32)
            a_01 = tl.load(decay + b * decay_b + N + n, mask=in_n, other=0.0)
            a_10 = tl.load(decay + b * decay_b + 2 * N + n, mask=in_n, other=0.0)
            a_11 = tl.load(decay + b * decay_b + 3 * N + n, mask=in_n, other=0.0)
            if L >= 1:
                sum_0 += select_product(tl.load(lam_b, mask=in_n, other=0.0)[:, None], re)
                sum_0 += select_product(tl.load(lam_b + N, mask=in_n, other=0.0)[:, None], im)
            if L == 2:
                sum_1 += select_product(tl.load(lam_b + 2 * N, mask=in_n, other=0.0)[:, None], re)
                sum_1 += select_product(tl.load(lam_b + 3 * N, mask=in_n, other=0.0)[:, None], im)
            new_im = select_product(a_10[:, None], re) + select_product(a_11[:, None], im)
            new = select_product(a[:, None], re) + select_product(a_01[:, None], im)

        p = update + b * update_b + k * N
        if ONE_STEP:
            x_t = tl.load(x + b * D + i, mask=in_d, other=0.0)
            new += tl.load(p + n, mask=in_n, other=0.0)[:, None] * x_t[None, :]
            if STATE == 2:
                new_im += tl.load(p + update_i + n, mask=in_n, other=0.0)[:, None] * x_t[None, :]  # pyright: ignore
        else:
            for start in range(0, T, BLOCK_T):
                t = start + tl.arange(0, BLOCK_T)
                in_t = t < T
                at_x = x + (t[:, None] * B + b) * D + i[None, :]
                x_t = tl.load(at_x, mask=in_t[:, None] & in_d[None, :], other=0.0)
                at_p = p + t[None, :] * update_t + n[:, None]
                in_p = in_n[:, None] & in_t[None, :]
                new = tl.dot(tl.load(at_p, mask=in_p, other=0.0), x_t, new, input_precision=PRECISION)
                if STATE == 2:
                    p_im = tl.load(at_p + update_i, mask=in_p, other=0.0)
                    new_im = tl.dot(p_im, x_t, new_im, input_precision=PRECISION)  # pyright: ignore
        tl.store(at, new.to(matrices.dtype.element_ty), mask=in_tile)
        if STATE == 2:
            tl.store(at_im, new_im.to(matrices.dtype.element_ty), mask=in_tile)  # pyright: ignore

    at_sum = boundary + (split * K + k) * (L * N * D) + n[:, None] * D + i[None, :]
    if L >= 1:
        tl.store(at_sum, sum_0, mask=in_tile)
    if L == 2:
        tl.store(at_sum + N * D, sum_1, mask=in_tile)


class Tile(NamedTuple):
    """How the work is cut: block sizes, columns of one share of the batch, warps, pipeline stages."""

    n: int = 64
    d: int = 32
    t: int = 16
    columns: int = 8
    warps: int = 8
    stages: int = 3


def choose_tile(state: int, precision: str, half: bool = False, even: bool = True) -> Tile:
    """The tile for `state` numbers a unit. Chosen from ahead-of-time builds for sm_80 and sm_90, not timings.

    half: the trace is in bfloat16; even: N is a multiple of 16, so that loads of 16 bytes are known to fit.

    The default takes 128 registers at tf32, so that two programs of 8 warps fit one multiprocessor. Wider
    tiles would read the low-rank factors less often, but fill the registers alone, or spill; "ieee", whose
    products are plain multiply-adds, spills at the default tile, and so does a third stage on sm_80 where
    just one of `half` and not `even` holds. With two numbers a unit there is room."""
    if state == 2:
        return Tile()
    if precision == "ieee":
        return Tile(n=32, warps=4, stages=2)
    return Tile(stages=3 if half != even else 2)


INTERPRETED = isinstance(advance_trace_kernel, InterpretedFunction)
"""Whether TRITON_INTERPRET=1 stood when this module was imported: kernels then run on CPU tensors, slowly."""


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device, which need not be the one that the tensors are on."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def advance_trace_triton(
    matrices: Tensor,
    rows: Tensor,
    lam: Tensor | None,
    decay: Tensor,
    update: Tensor,
    x: Tensor,
    precision: str = "ieee",
    tile: Tile | None = None,
) -> Tensor:
    """Same arguments as `kernels.trace.advance_trace_`; without lam the advance alone, and no term."""
    T, B, D = x.shape
    _, K, d, N, padded = matrices.shape
    for name, size in (("update", update.stride(0) * T), ("x", x.numel())):
        if size >= 2**31:
            raise ValueError(f"{name} has {size} elements, and the kernel counts to 2**31: cut the batch")
    # In a step's slice the last dimensions are read as contiguous.
    if decay.stride()[1:] != (d * N, N, 1):
        decay = decay.contiguous()
    if update.stride()[3:] != (N, 1):
        update = update.contiguous()
    tile = tile or choose_tile(d, precision, matrices.dtype == torch.bfloat16, N % 16 == 0)
    shares = triton.cdiv(B, tile.columns)
    L = 0 if lam is None else lam.shape[1]
    partial = x.new_empty(shares if L else 0, K * L, N, D)
    lam = decay if lam is None else lam.contiguous()
    grid = (triton.cdiv(D, tile.d), triton.cdiv(N, tile.n), K * shares)
    with on_device_of(x):
        advance_trace_kernel[grid](
            matrices, rows, lam, decay, update, x.contiguous(), partial, T, B, N, D, padded,
            decay.stride(0), update.stride(0), update.stride(1), update.stride(2),
            COLUMNS=tile.columns, K=K, L=L, STATE=d, BLOCK_N=tile.n, BLOCK_D=tile.d, BLOCK_T=tile.t,
            ONE_STEP=T == 1, PRECISION=precision, num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return partial.sum(0) if L else x.new_empty(0)
