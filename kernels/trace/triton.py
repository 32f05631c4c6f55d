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
    matrices,  # [rows, K, d, N, D], advanced in place
    rows,  # [B] int64
    lam,  # [B, L, d, N]
    decay,  # [B, d, d, N], by its stride over B
    update,  # [T, B, d, K, N], by its strides
    x,  # [T, B, D]
    boundary,  # [SHARES, K, L, N, D]: one partial sum for each share of the batch
    T,
    B,
    N,
    D,  # padding included: a multiple of 16, or loads and stores are of 4 bytes
    columns,  # of the batch, in one share
    decay_b,
    update_t,
    update_b,
    update_i,
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
    share = tl.program_id(2) // K
    in_n, in_d = n < N, i < D
    tile = n[:, None] * D + i[None, :]
    in_tile = in_n[:, None] & in_d[None, :]

    zero = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    sum_0, sum_1 = zero, zero
    for b in range(share * columns, min(share * columns + columns, B)):
        # The trace is asked for first and used last: it is on its way while the products are formed.
        at = matrices + (tl.load(rows + b) * K + k) * (STATE * N * D) + tile
        re = tl.load(at, mask=in_tile, other=0.0)
        if STATE == 2:
            im = tl.load(at + N * D, mask=in_tile, other=0.0)
        new, new_im = zero, zero
        p = update + b * update_b + k * N
        if ONE_STEP:
            x_t = tl.load(x + b * D + i, mask=in_d, other=0.0)
            new += tl.load(p + n, mask=in_n, other=0.0)[:, None] * x_t[None, :]
            if STATE == 2:
                new_im += tl.load(p + update_i + n, mask=in_n, other=0.0)[:, None] * x_t[None, :]
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
                    new_im = tl.dot(p_im, x_t, new_im, input_precision=PRECISION)

        re = re.to(tl.float32)
        at_a, at_lam = decay + b * decay_b + n, lam + b * (L * STATE * N) + n
        a = tl.load(at_a, mask=in_n, other=0.0)
        if STATE == 1:
            # A trace that a reset erases counts as 0, since 0 * inf is NaN. One select serves both uses: two
            # take ten registers more.
            needed = a != 0
            if L >= 1:
                first = tl.load(at_lam, mask=in_n, other=0.0)
                needed = needed | (first != 0)
            re = tl.where(needed[:, None], re, 0.0)
            new += a[:, None] * re
            if L >= 1:
                sum_0 += first[:, None] * re  # pyright: ignore
            if L == 2:
                sum_1 += select_product(tl.load(at_lam + N, mask=in_n, other=0.0)[:, None], re)
        else:
            im = im.to(tl.float32)  # pyright: ignore
            new += select_product(a[:, None], re)
            new += select_product(tl.load(at_a + N, mask=in_n, other=0.0)[:, None], im)
            new_im += select_product(tl.load(at_a + 2 * N, mask=in_n, other=0.0)[:, None], re)
            new_im += select_product(tl.load(at_a + 3 * N, mask=in_n, other=0.0)[:, None], im)
            if L >= 1:
                sum_0 += select_product(tl.load(at_lam, mask=in_n, other=0.0)[:, None], re)
                sum_0 += select_product(tl.load(at_lam + N, mask=in_n, other=0.0)[:, None], im)
            if L == 2:
                sum_1 += select_product(tl.load(at_lam + 2 * N, mask=in_n, other=0.0)[:, None], re)
                sum_1 += select_product(tl.load(at_lam + 3 * N, mask=in_n, other=0.0)[:, None], im)
            tl.store(at + N * D, new_im.to(matrices.dtype.element_ty), mask=in_tile)
        tl.store(at, new.to(matrices.dtype.element_ty), mask=in_tile)

    at_sum = boundary + (share * K + k) * (L * N * D) + tile
    if L >= 1:
        tl.store(at_sum, sum_0, mask=in_tile)
    if L == 2:
        tl.store(at_sum + N * D, sum_1, mask=in_tile)


class Tile(NamedTuple):
    """How a visit is cut: block sizes, warps, pipeline stages of the loop over T."""

    n: int = 64
    d: int = 32
    t: int = 16
    warps: int = 8
    stages: int = 3


def choose_tile(state: int, turns: int, precision: str) -> Tile:
    """The tile for `state` numbers a unit and `turns` boundary terms of one matrix. Chosen from ahead-of-time
    builds for sm_80 and sm_90 (README.md), not from timings."""
    if precision == "ieee":
        return Tile(n=32, warps=4, stages=2)
    if precision == "tf32" and state == 1 and turns <= 1:
        return Tile(d=64)
    return Tile()


MIN_COLUMNS, PROGRAMS = 4, 640
"""A launch has about so many programs, some turns for each multiprocessor, unless columns run short: each
share of the batch leaves a partial sum as large as the weights."""


def choose_columns(B: int, tiles: int) -> int:
    """Batch columns of one share, where a column has `tiles` tiles."""
    shares = min(-(-B // MIN_COLUMNS), -(-PROGRAMS // tiles))
    return -(-B // shares)


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
    precision: str = "tf32x3",
    tile: Tile | None = None,
) -> Tensor:
    """Same arguments as `kernels.trace.advance_trace_`; without lam the advance alone, and no term."""
    T, B, D = x.shape
    _, K, d, N, padded = matrices.shape
    for name, size in (("update", update.stride(0) * T), ("x", T * B * padded)):
        if size >= 2**31:
            raise ValueError(f"{name} has {size} elements, and the kernel counts to 2**31: cut the batch")
    # In a step's slice the last dimensions are read as contiguous.
    if decay.stride()[1:] != (d * N, N, 1):
        decay = decay.contiguous()
    if update.stride()[3:] != (N, 1):
        update = update.contiguous()
    if padded > D:  # rows of the trace's width: loads of 16 bytes, and nothing comes into its padding
        x = torch.nn.functional.pad(x, (0, padded - D))
    L = 0 if lam is None else lam.shape[1]
    tile = tile or choose_tile(d, L, precision)
    grid = -(-padded // tile.d), -(-N // tile.n)
    columns = choose_columns(B, grid[0] * grid[1] * K)
    shares = -(-B // columns)
    partial = x.new_empty(shares if L else 0, K * L, N, padded)
    lam = decay if lam is None else lam.contiguous()
    with on_device_of(x):
        advance_trace_kernel[(*grid, K * shares)](
            matrices, rows, lam, decay, update, x.contiguous(), partial, T, B, N, padded, columns,
            decay.stride(0), update.stride(0), update.stride(1), update.stride(2),
            K=K, L=L, STATE=d, BLOCK_N=tile.n, BLOCK_D=tile.d, BLOCK_T=tile.t, ONE_STEP=T == 1,
            PRECISION=precision, num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return partial[..., :D].sum(0) if L else x.new_empty(0)
