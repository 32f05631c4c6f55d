"""Exact real-time recurrent learning (RTRL) of any element-wise cell, a chunk at a time.

The frame: `cell.py` says what a cell must tell, README.md derives the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar, cast

import torch
from torch import Tensor

from kernels.rtrl import ops
from kernels.rtrl.cell import Cell
from kernels.rtrl.contract import check_arguments
from kernels.rtrl.reference import rtrl_reference
from kernels.rtrl.trace import BankedTrace, FixedTrace, Trace
from kernels.trace import choose_backend

Backend = Literal["auto", "reference", "chunked", "triton"]
AnyTrace = TypeVar("AnyTrace", bound=Trace | BankedTrace | FixedTrace | None)


def rtrl_scan(
    cell: Cell,
    x: Tensor,
    weights: Sequence[Tensor],
    vectors: Sequence[Tensor],
    h_0: Tensor,
    reset: Tensor,
    trace: AnyTrace = None,
    backend: str = "auto",
) -> tuple[Tensor, AnyTrace]:
    """Runs `cell` over a chunk of T steps.

    x [T, B, D], weights: K of [N, D], as `cell.gates` names them, vectors: V of [N], as `cell.vectors` does,
    h_0 [B, d, N] (before x[0]) in float32 or float64; reset [T, B] bool: where set, state and trace are
    zeroed before x[t] is consumed.

    trace: None trains by truncated BPTT, and None comes back. With the sensitivities before x[0] the
    weight gradients are those of exact RTRL: the gradient of every loss on this chunk's states reaches
    back through the whole stream, as long as the weights that built the trace are the present ones.
    The gradients of x and h_0 stay inside the chunk.

    Returns the states h [T, B, d, N] and the trace after x[T-1]: a new Trace, the one handed in left as it
    is; or the BankedTrace that was handed in, whose rows `backward` advances in place; or the FixedTrace that
    was handed in, as it was. Differentiable once in x, the weights and h_0, not in the trace.

    backend: "reference" (step by step, the oracle), "chunked" (torch), "triton" (float32 on a GPU), or
    "auto": triton where it can run, else chunked.

    Raises ValueError, naming the argument, for a wrong shape, dtype or device, before anything runs.
    """
    chosen = choose_backend(backend, x)
    if chosen == "triton" and not cell.has_triton:
        if backend == "triton":
            raise ValueError(
                f"backend = 'triton': cell {cell.name!r} has no Triton functions, choose 'chunked'"
            )
        chosen = "chunked"
    given = trace.trace if isinstance(trace, FixedTrace) else trace
    check_arguments(cell, x, weights, vectors, h_0, reset, given)
    parameters = (*weights, *vectors)
    differentiate = torch.is_grad_enabled() and any(v.requires_grad for v in (x, h_0, *parameters))
    W = torch.stack(list(weights))
    psi = torch.stack(list(vectors)) if vectors else W.new_empty(0, W.shape[1])
    if isinstance(trace, BankedTrace):
        trace.check_fresh(differentiate)
        if chosen == "reference":
            raise ValueError("trace is a BankedTrace: backend 'reference' takes gathered rows, a Trace")
        rows = trace.rows_on(x.device)
        h, _, _ = ops.rtrl_forward(x, W, psi, h_0, reset, list(trace.bank), rows, True, cell.name, chosen)
        trace.await_backward(h)
        return h, trace
    assert given is None or isinstance(given, Trace)
    if chosen == "reference":
        h, advanced = rtrl_reference(cell, x, W, psi, h_0, reset, given)
        return h, trace if isinstance(trace, FixedTrace) else cast("AnyTrace", advanced)
    tensors = [] if given is None else list(given)
    derivatives = differentiate or given is not None
    h, u, extra = ops.rtrl_forward(x, W, psi, h_0, reset, tensors, None, derivatives, cell.name, chosen)
    if given is None or isinstance(trace, FixedTrace):
        return h, trace
    with torch.no_grad():
        advanced = ops.rtrl_advance(x, psi, h, h_0, reset, u, extra, tensors, cell.name, chosen)
    return h, cast("AnyTrace", Trace(*advanced))


__all__ = ["Backend", "BankedTrace", "Cell", "FixedTrace", "Trace", "rtrl_scan"]
