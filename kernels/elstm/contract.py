"""The trace of the eLSTM and the shape contract of its public door."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class ELSTMTrace(NamedTuple):
    """Sensitivities dc/dtheta of an eLSTM's state, one row for each stream.

    Rows are independent, so a bank of traces is this same class with one row a stream:
    `bank.map(lambda s: s[rows])` gathers a batch.
    """

    W_z: Tensor
    """[rows, N, D] d c[n] / d W_z[n, d]; all other entries of that Jacobian are zero."""
    W_f: Tensor
    """[rows, N, D] d c[n] / d W_f[n, d]."""
    w_z: Tensor
    """[rows, N]"""
    w_f: Tensor
    """[rows, N]"""
    b_z: Tensor
    """[rows, N]"""
    b_f: Tensor
    """[rows, N]"""

    @classmethod
    def zeros(
        cls,
        batch: int,
        hidden: int,
        input: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        matrix_dtype: torch.dtype | None = None,
    ) -> ELSTMTrace:
        """The trace of `batch` streams at the start of an episode.

        matrix_dtype: of W_z and W_f, if other than `dtype`; torch.bfloat16 halves a bank's memory.
        """
        shape = batch, hidden, input
        matrices = [torch.zeros(shape, device=device, dtype=matrix_dtype or dtype) for _ in range(2)]
        vectors = [torch.zeros(batch, hidden, device=device, dtype=dtype) for _ in range(4)]
        return cls(*matrices, *vectors)

    def map(self, function: Callable[[Tensor], Tensor]) -> ELSTMTrace:
        """Applies `function` to each of the six tensors."""
        return ELSTMTrace(*(function(tensor) for tensor in self))


def _expect(name: str, tensor: Tensor, shape: tuple[int, ...], symbols: str, like: Tensor) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {symbols} = {list(shape)}")
    if tensor.device != like.device:
        raise ValueError(f"{name} is on {tensor.device}, x on {like.device}: move them to one device")


class TraceRows(Protocol):
    """Rows of a bank that stand for a gathered trace (kernels/elstm/bank.py)."""

    @property
    def bank(self) -> ELSTMTrace: ...

    def __len__(self) -> int: ...


def check_arguments(
    x: Tensor,
    W_z: Tensor,
    W_f: Tensor,
    w_z: Tensor,
    w_f: Tensor,
    b_z: Tensor,
    b_f: Tensor,
    c_0: Tensor,
    reset: Tensor,
    trace: ELSTMTrace | TraceRows | None,
) -> None:
    """Raises ValueError, naming the argument, unless shapes, types and devices agree."""
    if x.ndim != 3 or x.shape[0] < 1:
        raise ValueError(f"x has shape {list(x.shape)}, expected [T, B, D] with T >= 1")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x is {x.dtype}: the eLSTM computes in float32 or float64, convert it first")
    if W_z.ndim != 2:
        raise ValueError(f"W_z has shape {list(W_z.shape)}, expected [N, D]")
    T, B, D = x.shape
    N = W_z.shape[0]
    floats: list[tuple[str, Tensor, tuple[int, ...], str]] = [
        ("W_z", W_z, (N, D), "[N, D]"),
        ("W_f", W_f, (N, D), "[N, D]"),
        ("w_z", w_z, (N,), "[N]"),
        ("w_f", w_f, (N,), "[N]"),
        ("b_z", b_z, (N,), "[N]"),
        ("b_f", b_f, (N,), "[N]"),
        ("c_0", c_0, (B, N), "[B, N]"),
    ]
    for name, tensor, shape, symbols in floats:
        _expect(name, tensor, shape, symbols, x)
        if tensor.dtype != x.dtype:
            raise ValueError(f"{name} is {tensor.dtype}, x is {x.dtype}: convert one of them")
    _expect("reset", reset, (T, B), "[T, B]", x)
    if reset.dtype != torch.bool:
        raise ValueError(f"reset is {reset.dtype}, expected torch.bool")
    if isinstance(trace, ELSTMTrace):
        _check_trace("trace", trace, B, "B", N, x)
    elif trace is not None:
        if len(trace) != B:
            raise ValueError(f"trace names {len(trace)} rows, x has B = {B} columns")
        _check_trace("trace.bank", trace.bank, trace.bank.W_z.shape[0], "rows", N, x)


def _check_trace(owner: str, trace: ELSTMTrace, rows: int, symbol: str, N: int, x: Tensor) -> None:
    """A bank's matrices may be bfloat16; it is advanced in place, and so must be contiguous."""
    in_place = symbol == "rows"
    for field, tensor in zip(trace._fields, trace, strict=True):
        name, matrix = f"{owner}.{field}", field.startswith("W")
        shape = (rows, N, x.shape[2]) if matrix else (rows, N)
        _expect(name, tensor, shape, f"[{symbol}, N, D]" if matrix else f"[{symbol}, N]", x)
        if tensor.dtype != x.dtype and not (in_place and matrix and tensor.dtype == torch.bfloat16):
            raise ValueError(f"{name} is {tensor.dtype}, x is {x.dtype}: convert one of them")
        if tensor.requires_grad:
            raise ValueError(f"{name} requires grad: a trace is not differentiable, detach it")
        if in_place and not tensor.is_contiguous():
            raise ValueError(f"{name} is not contiguous: backward advances its rows in place")
    if trace.W_z.dtype != trace.W_f.dtype:
        raise ValueError(f"{owner}.W_f is {trace.W_f.dtype}, {owner}.W_z {trace.W_z.dtype}: use one dtype")
