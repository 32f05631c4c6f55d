"""Boundary term and advance of a trace of sensitivities, in one visit, in place.

For K weight matrices that share an input and a state Jacobian, block-diagonal with blocks of d x d numbers
a unit (d = 1: eLSTM; d = 2: recurrent trace units), as README.md derives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from kernels.trace.reference import advance_trace_chunked, advance_trace_reference

Backend = Literal["auto", "reference", "chunked", "triton"]
Precision = Literal["ieee", "tf32x3", "tf32"]

PRECISIONS = ("ieee", "tf32x3", "tf32")
MAX_MATRICES = 4


def _triton(*arguments: object) -> Tensor:
    from kernels.trace.triton import advance_trace_triton

    return advance_trace_triton(*arguments)  # pyright: ignore[reportArgumentType]


_BACKENDS: dict[str, Callable[..., Tensor]] = {
    "reference": advance_trace_reference,
    "chunked": advance_trace_chunked,
    "triton": _triton,
}


def check_rows(rows: Tensor, bank_rows: int) -> list[int]:
    """The numbers in `rows` [B] int64; waits for the GPU if they lie there.

    Raises ValueError unless they are distinct rows of a bank of `bank_rows`.
    """
    if rows.ndim != 1 or rows.dtype != torch.int64:
        raise ValueError(f"rows is {rows.dtype} {list(rows.shape)}, expected int64 [B]")
    values = rows.tolist()
    for row in values:
        if not 0 <= row < bank_rows:
            raise ValueError(f"rows names row {row}, but the bank holds rows 0 to {bank_rows - 1}")
    if len(set(values)) < len(values):
        twice = next(row for i, row in enumerate(values) if row in values[:i])
        raise ValueError(f"rows names row {twice} twice: a batch holds a stream at most once")
    return values


def choose_backend(backend: str, x: Tensor) -> str:
    """The backend that "auto" stands for; ValueError for one that cannot run on x."""
    on_gpu = x.is_cuda and x.dtype == torch.float32
    if backend == "auto":
        return "triton" if on_gpu else "chunked"
    if backend not in _BACKENDS:
        raise ValueError(f"backend = {backend!r}: choose one of 'auto', {', '.join(map(repr, _BACKENDS))}")
    if backend == "triton":
        if x.dtype != torch.float32:
            raise ValueError(f"x is {x.dtype}: backend 'triton' computes in float32, choose 'chunked'")
        if not x.is_cuda:
            from kernels.trace.triton import INTERPRETED

            if not INTERPRETED:
                raise ValueError(f"x is on {x.device}: backend 'triton' needs a GPU, choose 'chunked'")
    return backend


def _check(
    traces: Sequence[Tensor], rows: Tensor, lam_0: Tensor, decay: Tensor, update: Tensor, x: Tensor
) -> None:
    if x.ndim != 3 or x.shape[0] < 1:
        raise ValueError(f"x has shape {list(x.shape)}, expected [T, B, D] with T >= 1")
    if not 1 <= len(traces) <= MAX_MATRICES:
        raise ValueError(f"traces holds {len(traces)} matrices, expected 1 to {MAX_MATRICES}")
    if lam_0.ndim != 3 or lam_0.shape[1] not in (1, 2):
        raise ValueError(f"lam_0 has shape {list(lam_0.shape)}, expected [B, d, N] with d = 1 or 2")
    T, B, D = x.shape
    _, d, N = lam_0.shape
    K = len(traces)
    for name, tensor, shape, symbols in (
        ("lam_0", lam_0, (B, d, N), "[B, d, N]"),
        ("decay", decay, (B, d, d, N), "[B, d, d, N]"),
        ("update", update, (T, B, K, d, N), "[T, B, K, d, N]"),
        ("rows", rows, (B,), "[B]"),
        *((f"traces[{k}]", s, (s.shape[0], d, N, D), "[rows, d, N, D]") for k, s in enumerate(traces)),
    ):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {symbols} = {list(shape)}")
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device}, x on {x.device}: move them to one device")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x is {x.dtype}: the trace is advanced in float32 or float64")
    for name, tensor in (("lam_0", lam_0), ("decay", decay), ("update", update)):
        if tensor.dtype != x.dtype:
            raise ValueError(f"{name} is {tensor.dtype}, x is {x.dtype}: convert one of them")
    for k, s in enumerate(traces):
        if s.dtype not in (x.dtype, torch.bfloat16) or s.dtype != traces[0].dtype:
            raise ValueError(f"traces[{k}] is {s.dtype}, expected {x.dtype} or torch.bfloat16, all alike")
        if s.shape[0] != traces[0].shape[0]:
            raise ValueError(f"traces[{k}] has {s.shape[0]} rows, traces[0] {traces[0].shape[0]}")
        if not s.is_contiguous():
            raise ValueError(f"traces[{k}] is not contiguous: it is advanced in place, row by row")


def advance_trace_(
    traces: Sequence[Tensor],
    rows: Tensor,
    lam_0: Tensor,
    decay: Tensor,
    update: Tensor,
    x: Tensor,
    backend: Backend = "auto",
    precision: Precision = "ieee",
) -> Tensor:
    """Returns the boundary term of K weight matrices, [K, N, D], and advances their traces in place.

    traces: K tensors [rows, d, N, D], contiguous, float32 or float64 like the rest, or bfloat16: the bank.
    rows [B] int64: the row of each batch column, none twice; checked on the host, so best kept there.
    lam_0 [B, d, N]: adjoint of the state before the chunk.
    decay [B, d, d, N]: the chunk's state Jacobian, d c_T[i] / d c_0[j].
    update [T, B, K, d, N]: what an input of step t, times the gate's derivative, still moves c_T by.
    x [T, B, D]: the inputs.

        gradient_k[n]   = sum_b sum_i lam_0[b, i, n] S_k[b, i, n]
        S_k[b, i, n]   <- sum_j decay[b, i, j, n] S_k[b, j, n] + sum_t update[t, b, k, i, n] x[t, b]

    precision, of backend "triton" only: how its float32 products are formed, "ieee", "tf32x3" or "tf32".
    Where lam_0 and decay are 0, after a reset at the first step, a trace is erased even if it is not finite.
    Deterministic. Not differentiable. Raises ValueError, naming the argument, before anything is written.
    """
    rows_device = rows.to(x.device)
    _check(traces, rows_device, lam_0, decay, update, x)
    check_rows(rows, traces[0].shape[0])
    if precision not in PRECISIONS:
        raise ValueError(f"precision = {precision!r}: choose one of {', '.join(map(repr, PRECISIONS))}")
    chosen = choose_backend(backend, x)
    arguments = [list(traces), rows_device, lam_0, decay, update, x]
    with torch.no_grad():
        if chosen == "triton":
            return _triton(*arguments, precision)
        return _BACKENDS[chosen](*arguments)


__all__ = ["Backend", "Precision", "advance_trace_", "check_rows", "choose_backend"]
