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
    S_0,
    S_1,
    S_2,
    S_3,  # K traces [rows, d, N, D], advanced in place; those past K repeat S_0
    rows,  # [B] int64
    lam_0,  # [B, d, N]
    decay,  # [B, d, d, N]
    update,  # [T, B, K, d, N]
    x,  # [T, B, D]
    boundary,  # [SPLITS, K, N, D]: one partial sum for each share of the batch
    T,
    B,
    N,
    D,
    COLUMNS: tl.constexpr,  # batch columns of one share
    K: tl.constexpr,
    STATE: tl.constexpr,  # d
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_T: tl.constexpr,
    ONE_STEP: tl.constexpr,  # T == 1: an outer product in the place of a matrix product
    BOUNDARY: tl.constexpr,
    PRECISION: tl.constexpr,
):
    # Neighbours in the launch order share a row's inputs, so that these stay in the L2 cache.
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    i = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    k = tl.program_id(2) % K
    split = tl.program_id(2) // K
    in_n, in_d = n < N, i < D
    tile = n[:, None] * D + i[None, :]
    in_tile = in_n[:, None] & in_d[None, :]

    S = S_0
    if k == 1:
        S = S_1
    if k == 2:
        S = S_2
    if k == 3:
        S = S_3

    sum_b = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for b in range(split * COLUMNS, min(split * COLUMNS + COLUMNS, B)):
        at = S + tl.load(rows + b) * (STATE * N * D) + tile
        lam = tl.load(lam_0 + b * (STATE * N) + n, mask=in_n, other=0.0)
        a = tl.load(decay + b * (STATE * STATE * N) + n, mask=in_n, other=0.0)
        if STATE == 1:
            # A trace that a reset erases is not read: 0 * inf is NaN. One select on what was read takes 12
            # registers more, and then one program fits a multiprocessor where two did.
            needed = (lam != 0) | (a != 0) if BOUNDARY else a != 0
            re = tl.load(at, mask=in_tile & needed[:, None], other=0.0).to(tl.float32)
        else:
            re = tl.load(at, mask=in_tile, other=0.0).to(tl.float32)
        if BOUNDARY and STATE == 1:
            sum_b += lam[:, None] * re
        if STATE == 2:
            at_im = at + N * D
            im = tl.load(at_im, mask=in_tile, other=0.0).to(tl.float32)
            lam_im = tl.load(lam_0 + b * (2 * N) + N + n, mask=in_n, other=0.0)
            a_01 = tl.load(decay + b * (4 * N) + N + n, mask=in_n, other=0.0)
            a_10 = tl.load(decay + b * (4 * N) + 2 * N + n, mask=in_n, other=0.0)
            a_11 = tl.load(decay + b * (4 * N) + 3 * N + n, mask=in_n, other=0.0)
            if BOUNDARY:
                sum_b += select_product(lam[:, None], re)
                sum_b += select_product(lam_im[:, None], im)
            new_im = select_product(a_10[:, None], re) + select_product(a_11[:, None], im)
            new = select_product(a[:, None], re) + select_product(a_01[:, None], im)
        else:
            new = a[:, None] * re

        p = update + (b * K + k) * (STATE * N)
        if ONE_STEP:
            x_t = tl.load(x + b * D + i, mask=in_d, other=0.0)
            new += tl.load(p + n, mask=in_n, other=0.0)[:, None] * x_t[None, :]
            if STATE == 2:
                new_im += tl.load(p + N + n, mask=in_n, other=0.0)[:, None] * x_t[None, :]  # pyright: ignore
        else:
            for start in range(0, T, BLOCK_T):
                t = start + tl.arange(0, BLOCK_T)
                in_t = t < T
                at_x = x + (t[:, None] * B + b) * D + i[None, :]
                x_t = tl.load(at_x, mask=in_t[:, None] & in_d[None, :], other=0.0)
                at_p = p + t[None, :] * (B * K * STATE * N) + n[:, None]
                in_p = in_n[:, None] & in_t[None, :]
                new = tl.dot(tl.load(at_p, mask=in_p, other=0.0), x_t, new, input_precision=PRECISION)
                if STATE == 2:
                    p_im = tl.load(at_p + N, mask=in_p, other=0.0)
                    new_im = tl.dot(p_im, x_t, new_im, input_precision=PRECISION)  # pyright: ignore
        tl.store(at, new.to(S_0.dtype.element_ty), mask=in_tile)
        if STATE == 2:
            tl.store(at_im, new_im.to(S_0.dtype.element_ty), mask=in_tile)  # pyright: ignore

    if BOUNDARY:
        tl.store(boundary + (split * K + k) * (N * D) + tile, sum_b, mask=in_tile)


class Tile(NamedTuple):
    """How the work is cut: block sizes, columns of one share of the batch, warps, pipeline stages."""

    n: int = 64
    d: int = 32
    t: int = 16
    columns: int = 8
    warps: int = 8
    stages: int = 3


def choose_tile(state: int, precision: str) -> Tile:
    """The tile for `state` numbers a unit. Chosen from ahead-of-time builds for sm_80 and sm_90, not timings.

    The default takes 128 registers at tf32, so that two programs of 8 warps fit one multiprocessor. Wider
    tiles would read the low-rank factors less often, but fill the registers alone, or spill; "ieee", whose
    products are plain multiply-adds, spills at the default tile. With two numbers a unit there is room.
    """
    return Tile(n=32, warps=4, stages=2) if (state, precision) == (1, "ieee") else Tile()


INTERPRETED = isinstance(advance_trace_kernel, InterpretedFunction)
"""Whether TRITON_INTERPRET=1 stood when this module was imported: kernels then run on CPU tensors, slowly."""


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device, which need not be the one that the tensors are on."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def advance_trace_triton(
    traces: list[Tensor],
    rows: Tensor,
    lam_0: Tensor | None,
    decay: Tensor,
    update: Tensor,
    x: Tensor,
    precision: str = "ieee",
    tile: Tile | None = None,
) -> Tensor:
    """Same arguments as `kernels.trace.advance_trace_`; without lam_0 the advance alone, and no term."""
    T, B, D = x.shape
    K, d, N = len(traces), decay.shape[1], decay.shape[3]
    for name, tensor in (("update", update), ("x", x)):
        if tensor.numel() >= 2**31:
            raise ValueError(
                f"{name} has {tensor.numel()} elements, and the kernel counts to 2**31: cut the batch"
            )
    tile = tile or choose_tile(d, precision)
    shares = triton.cdiv(B, tile.columns)
    partial = x.new_empty(shares if lam_0 is not None else 0, K, N, D)
    decay = decay.contiguous()
    lam_0 = decay if lam_0 is None else lam_0.contiguous()
    grid = (triton.cdiv(D, tile.d), triton.cdiv(N, tile.n), K * shares)
    with on_device_of(x):
        advance_trace_kernel[grid](
            *traces, *[traces[0]] * (4 - K), rows, lam_0, decay, update.contiguous(), x.contiguous(), partial,
            T, B, N, D,
            COLUMNS=tile.columns, K=K, STATE=d, BLOCK_N=tile.n, BLOCK_D=tile.d, BLOCK_T=tile.t,
            ONE_STEP=T == 1, BOUNDARY=partial.shape[0] > 0, PRECISION=precision,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return partial.sum(0)
