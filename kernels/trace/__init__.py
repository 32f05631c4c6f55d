"""Boundary term and advance of a trace of sensitivities, in one visit, in place.

For K weight matrices that share an input and a state Jacobian, block-diagonal with blocks of d x d numbers
a unit (d = 1: eLSTM; d = 2: recurrent trace units), as README.md derives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from kernels.trace.reference import advance_trace_chunked, advance_trace_reference

Backend = Literal["auto", "reference", "chunked", "triton"]
Precision = Literal["ieee", "tf32x3", "tf32"]

PRECISIONS = ("ieee", "tf32x3", "tf32")
MAX_MATRICES = 4
MAX_TURNS = 2


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
    matrices: Tensor, rows: Tensor, lam: Tensor | None, decay: Tensor, update: Tensor, x: Tensor
) -> None:
    if x.ndim != 3 or x.shape[0] < 1:
        raise ValueError(f"x has shape {list(x.shape)}, expected [T, B, D] with T >= 1")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x is {x.dtype}: the trace is advanced in float32 or float64")
    T, B, D = x.shape
    size, K, d, N, padded = matrices.shape if matrices.ndim == 5 else (0, 0, 0, 0, 0)
    if not (1 <= K <= MAX_MATRICES and d in (1, 2) and padded >= D):
        raise ValueError(
            f"matrices has shape {list(matrices.shape)}, expected [rows, K, d, N, D'] with K = 1 to "
            f"{MAX_MATRICES}, d = 1 or 2, D' at least D = {D}"
        )
    if matrices.dtype not in (x.dtype, torch.bfloat16):
        raise ValueError(f"matrices is {matrices.dtype}, expected {x.dtype} or torch.bfloat16")
    if not matrices.is_contiguous():
        raise ValueError("matrices is not contiguous: it is advanced in place, row by row")
    turns = 0 if lam is None else lam.shape[1] if lam.ndim == 4 else 1
    if turns > MAX_TURNS:
        raise ValueError(
            f"lam has shape {list(lam.shape) if lam is not None else None}, expected L <= {MAX_TURNS}"
        )
    expected: list[tuple[str, Tensor | None, tuple[int, ...], str]] = [
        ("matrices", matrices, (size, K, d, N, padded), ""),
        ("lam", lam, (B, turns, d, N), "[B, L, d, N]"),
        ("decay", decay, (B, d, d, N), "[B, d, d, N]"),
        ("update", update, (T, B, d, K, N), "[T, B, d, K, N]"),
        ("rows", rows, (B,), "[B]"),
    ]
    for name, tensor, shape, symbols in expected:
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {symbols} = {list(shape)}")
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device}, x on {x.device}: move them to one device")
        if name in ("lam", "decay", "update") and tensor.dtype != x.dtype:
            raise ValueError(f"{name} is {tensor.dtype}, x is {x.dtype}: convert one of them")


def advance_trace_(
    matrices: Tensor,
    rows: Tensor,
    lam: Tensor | None,
    decay: Tensor,
    update: Tensor,
    x: Tensor,
    backend: Backend = "auto",
    precision: Precision = "tf32x3",
) -> Tensor:
    """Returns the boundary terms [K L, N, D] of K weight matrices, and advances their traces in place.

    matrices [rows, K, d, N, D'], contiguous, float32 or float64 like the rest, or bfloat16: the bank. D' is D
    or more, best a multiple of 16: the padding is zeros and stays so. rows [B] int64: the row of each batch
    column, none twice; checked on the host, so best kept there. lam [B, L, d, N]: adjoint of the state before
    the chunk, and (L = 2) a turned one. None: no boundary term. decay [B, d, d, N]: the chunk's state
    Jacobian, d h_T[i] / d h_0[j]. update [T, B, d, K, N]: what an input of step t, times the gate's
    derivative, still moves h_T by. x [T, B, D]: the inputs.

        boundary_{k L + l}[n] = sum_b sum_i lam_l[b, i, n] S_k[b, i, n]
        S_k[b, i, n]   <- sum_j decay[b, i, j, n] S_k[b, j, n] + sum_t update[t, b, i, k, n] x[t, b]

    precision, of backend "triton" only: how its float32 products are formed: "tf32x3" on the matrix units, as
    good as float32; "tf32", off by 8e-4; "ieee", by multiply-adds, without the matrix units.
    Where lam_0 and decay are 0, after a reset at the first step, a trace is erased even if it is not finite.
    Deterministic. Not differentiable. Raises ValueError, naming the argument, before anything is written.
    """
    rows_device = rows.to(x.device)
    _check(matrices, rows_device, lam, decay, update, x)
    check_rows(rows, matrices.shape[0])
    if precision not in PRECISIONS:
        raise ValueError(f"precision = {precision!r}: choose one of {', '.join(map(repr, PRECISIONS))}")
    with torch.no_grad():
        return _advance(matrices, rows_device, lam, decay, update, x, choose_backend(backend, x), precision)


@torch.library.custom_op("evertrace::advance_trace_", mutates_args=("matrices",))
def _advance(
    matrices: Tensor,
    rows: Tensor,
    lam: Tensor | None,
    decay: Tensor,
    update: Tensor,
    x: Tensor,
    backend: str,
    precision: str,
) -> Tensor:
    arguments = (matrices, rows, lam, decay, update, x)
    return _triton(*arguments, precision) if backend == "triton" else _BACKENDS[backend](*arguments)


@_advance.register_fake
def _(
    matrices: Tensor,
    rows: Tensor,
    lam: Tensor | None,
    decay: Tensor,
    update: Tensor,
    x: Tensor,
    backend: str,
    precision: str,
) -> Tensor:
    if lam is None:
        return x.new_empty(0)
    return x.new_empty(matrices.shape[1] * lam.shape[1], matrices.shape[3], x.shape[2])


__all__ = ["Backend", "Precision", "advance_trace_", "check_rows", "choose_backend"]
