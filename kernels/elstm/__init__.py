"""The eLSTM core with exact real-time recurrent learning (RTRL).

Irie, Gopalakrishnan, Schmidhuber, "Exploring the Promise and Limits of Real-Time Recurrent
Learning", ICLR 2024 (arXiv 2305.19044), equations 5 to 7; README.md says them. The computation is that of any
element-wise cell: `kernels.rtrl`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from kernels.cells.elstm.cell import CELL
from kernels.rtrl import Backend, BankedTrace, Trace, rtrl_scan
from kernels.rtrl.contract import check_arguments, check_state


class ELSTMTrace(NamedTuple):
    """Sensitivities dc/dtheta of an eLSTM's state by name, one row for each stream.

    A bank, which is advanced in place, is kept as one `kernels.rtrl.Trace`: `packed` makes it, `named` reads
    it."""

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
    ) -> ELSTMTrace:
        """The trace of `batch` streams at the start of an episode."""
        return cls.named(Trace.zeros(CELL, batch, hidden, input, device, dtype), input)

    @classmethod
    def named(cls, trace: Trace, input: int) -> ELSTMTrace:
        """Views of `trace`, of units that read `input` numbers."""
        return cls(*trace.matrices[:, :, 0, :, :input].unbind(1), *trace.vectors[:, :, 0].unbind(1))

    def packed(self) -> Trace:
        """A copy as one Trace."""
        rows, hidden, input = self.W_z.shape
        trace = Trace.zeros(CELL, rows, hidden, input, self.W_z.device, self.w_z.dtype, self.W_z.dtype)
        for mine, view in zip(self, ELSTMTrace.named(trace, input), strict=True):
            view.copy_(mine)
        return trace

    def map(self, function: Callable[[Tensor], Tensor]) -> ELSTMTrace:
        """Applies `function` to each of the six tensors."""
        return ELSTMTrace(*(function(tensor) for tensor in self))


AnyTrace = TypeVar("AnyTrace", bound=ELSTMTrace | BankedTrace | None)


def elstm(
    x: Tensor,
    W_z: Tensor,
    W_f: Tensor,
    w_z: Tensor,
    w_f: Tensor,
    b_z: Tensor,
    b_f: Tensor,
    c_0: Tensor,
    reset: Tensor,
    trace: AnyTrace = None,
    backend: Backend = "auto",
) -> tuple[Tensor, AnyTrace]:
    """Runs the eLSTM over a chunk of T steps: `kernels.rtrl.rtrl_scan` under the eLSTM's own names.

    x [T, B, D], W_z and W_f [N, D], w_z, w_f, b_z and b_f [N], c_0 [B, N] (before x[0]) in float32 or
    float64; reset [T, B] bool: where set, state and trace are zeroed before x[t] is consumed.

    Returns the states c [T, B, N] and the trace after x[T-1]: None for None (truncated BPTT); a new
    ELSTMTrace, the one handed in left as it is; or the BankedTrace that was handed in, whose rows `backward`
    advances.

    Raises ValueError, naming the argument, for a wrong shape, dtype or device, before anything runs.
    """
    weights, vectors = (W_z, W_f), (w_z, w_f, b_z, b_f)
    given: Any = trace
    if x.ndim == 3 and W_z.ndim == 2:  # else the scan's own check names the one that is not
        check_state("c_0", c_0, (x.shape[1], W_z.shape[0]), "[B, N]", x)
    h_0 = c_0[:, None]
    if isinstance(trace, ELSTMTrace):
        check_arguments(CELL, x, weights, vectors, h_0, reset, None)
        _check_trace(trace, x, W_z.shape[0])
        given = trace.packed()
    c, advanced = rtrl_scan(CELL, x, weights, vectors, h_0, reset, given, backend)
    if isinstance(trace, ELSTMTrace):
        advanced = ELSTMTrace.named(advanced, x.shape[2])
    return c.squeeze(2), cast("AnyTrace", advanced)


def _check_trace(trace: ELSTMTrace, x: Tensor, N: int) -> None:
    _, B, D = x.shape
    for name, tensor in zip(trace._fields, trace, strict=True):
        shape, symbols = ((B, N, D), "[B, N, D]") if name.startswith("W") else ((B, N), "[B, N]")
        check_state(f"trace.{name}", tensor, shape, symbols, x)
        if tensor.requires_grad:
            raise ValueError(f"trace.{name} requires grad: a trace is not differentiable, detach it")


__all__ = ["Backend", "BankedTrace", "ELSTMTrace", "elstm"]
