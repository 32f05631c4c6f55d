"""The shape contract of the public door."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.rtrl.cell import Cell
from kernels.rtrl.trace import BankedTrace, Trace


def check_state(name: str, tensor: Tensor, shape: tuple[int, ...], symbols: str, x: Tensor) -> None:
    """ValueError unless `tensor` has this shape, and x's device and dtype."""
    _expect(name, tensor, shape, symbols, x)
    if tensor.dtype != x.dtype:
        raise ValueError(f"{name} is {tensor.dtype}, x is {x.dtype}: convert one of them")


def _expect(name: str, tensor: Tensor, shape: tuple[int, ...], symbols: str, like: Tensor) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {symbols} = {list(shape)}")
    if tensor.device != like.device:
        raise ValueError(f"{name} is on {tensor.device}, x on {like.device}: move them to one device")


def check_arguments(
    cell: Cell,
    x: Tensor,
    weights: Sequence[Tensor],
    vectors: Sequence[Tensor],
    h_0: Tensor,
    reset: Tensor,
    trace: Trace | BankedTrace | None,
) -> None:
    """Raises ValueError, naming the argument, unless shapes, types and devices agree."""
    if x.ndim != 3 or x.shape[0] < 1:
        raise ValueError(f"x has shape {list(x.shape)}, expected [T, B, D] with T >= 1")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x is {x.dtype}: a cell computes in float32 or float64, convert it first")
    for kind, names, given in (("weights", cell.gates, weights), ("vectors", cell.vectors, vectors)):
        if len(given) != len(names):
            raise ValueError(
                f"{kind} holds {len(given)} tensors, cell {cell.name!r} has {', '.join(names) or 'none'}"
            )
    if weights[0].ndim != 2:
        raise ValueError(f"{cell.gates[0]} has shape {list(weights[0].shape)}, expected [N, D]")
    T, B, D = x.shape
    N = weights[0].shape[0]
    floats: list[tuple[str, Tensor, tuple[int, ...], str]] = [
        *((name, W, (N, D), "[N, D]") for name, W in zip(cell.gates, weights, strict=True)),
        *((name, v, (N,), "[N]") for name, v in zip(cell.vectors, vectors, strict=True)),
        ("h_0", h_0, (B, cell.d, N), "[B, d, N]"),
    ]
    for name, tensor, shape, symbols in floats:
        check_state(name, tensor, shape, symbols, x)
    _expect("reset", reset, (T, B), "[T, B]", x)
    if reset.dtype != torch.bool:
        raise ValueError(f"reset is {reset.dtype}, expected torch.bool")
    if isinstance(trace, Trace):
        _check_trace(cell, "trace", trace, B, "B", N, x)
    elif trace is not None:
        if len(trace) != B:
            raise ValueError(f"trace names {len(trace)} rows, x has B = {B} columns")
        _check_trace(cell, "trace.bank", trace.bank, trace.bank.matrices.shape[0], "rows", N, x)


def _check_trace(cell: Cell, owner: str, trace: Trace, rows: int, symbol: str, N: int, x: Tensor) -> None:
    """A bank's matrices may be bfloat16; it is advanced in place, and so must be contiguous."""
    in_place = symbol == "rows"
    like = Trace.zeros(cell, 0, N, x.shape[2], "meta")
    for field, tensor, wanted in zip(trace._fields, trace, like, strict=True):
        name, matrix = f"{owner}.{field}", field == "matrices"
        symbols = f"[{symbol}, K, d, N, D']" if matrix else f"[{symbol}, V, d, N]"
        _expect(name, tensor, (rows, *wanted.shape[1:]), symbols, x)
        if tensor.dtype != x.dtype and not (in_place and matrix and tensor.dtype == torch.bfloat16):
            raise ValueError(f"{name} is {tensor.dtype}, x is {x.dtype}: convert one of them")
        if tensor.requires_grad:
            raise ValueError(f"{name} requires grad: a trace is not differentiable, detach it")
        if in_place and not tensor.is_contiguous():
            raise ValueError(f"{name} is not contiguous: backward advances its rows in place")
