"""The eLSTM core with exact real-time recurrent learning (RTRL).

Irie, Gopalakrishnan, Schmidhuber, "Exploring the Promise and Limits of Real-Time Recurrent
Learning", ICLR 2024 (arXiv 2305.19044), equations 5 to 7. The chunked form is derived in README.md.
"""

from __future__ import annotations

from typing import Literal, TypeVar, cast

import torch
from torch import Tensor

from kernels.elstm import ops
from kernels.elstm.bank import BankedTrace
from kernels.elstm.contract import ELSTMTrace, check_arguments
from kernels.elstm.reference import elstm_reference
from kernels.trace import choose_backend

Backend = Literal["auto", "reference", "chunked", "triton"]
Trace = TypeVar("Trace", bound=ELSTMTrace | BankedTrace | None)


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
    trace: Trace = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Trace]:
    """Runs the eLSTM over a chunk of T steps.

    x [T, B, D], W_z and W_f [N, D], w_z, w_f, b_z and b_f [N], c_0 [B, N] (before x[0]) in float32 or
    float64; reset [T, B] bool: where set, state and trace are zeroed before x[t] is consumed.

    trace: None trains by truncated BPTT, and None comes back. With the sensitivities before x[0] the
    weight gradients are those of exact RTRL: the gradient of every loss on this chunk's states reaches
    back through the whole stream, as long as the weights that built the trace are the present ones.
    The gradients of x and c_0 stay inside the chunk.

    Returns the states c [T, B, N] and the trace after x[T-1]: a new ELSTMTrace, the one handed in left as
    it is; or the BankedTrace that was handed in, whose rows `backward` advances in place. Differentiable
    once in x, the weights and c_0, not in the trace.

    backend: "reference" (step by step, the oracle), "chunked" (torch), "triton" (float32 on a GPU), or
    "auto": triton where it can run, else chunked.

    Raises ValueError, naming the argument, for a wrong shape, dtype or device, before anything runs.
    """
    backend_name = choose_backend(backend, x)
    check_arguments(x, W_z, W_f, w_z, w_f, b_z, b_f, c_0, reset, trace)
    weights = (W_z, W_f, w_z, w_f, b_z, b_f)
    differentiate = torch.is_grad_enabled() and any(v.requires_grad for v in (x, c_0, *weights))
    banked = isinstance(trace, BankedTrace)
    if banked:
        trace.check_fresh(differentiate)
    if backend_name == "reference":
        if banked:
            raise ValueError("trace is a BankedTrace: backend 'reference' takes gathered rows, an ELSTMTrace")
        c, advanced = elstm_reference(x, *weights, c_0, reset, trace)
        return c, cast("Trace", advanced)

    W, w, b = torch.stack([W_z, W_f]), torch.stack([w_z, w_f]), torch.stack([b_z, b_f])
    tensors = [] if trace is None else list(trace.bank if banked else trace)
    rows = trace.rows_on(x.device) if banked else None
    derivatives = differentiate or trace is not None
    c, local, a = ops.elstm_forward(x, W, w, b, c_0, reset, tensors, rows, derivatives, backend_name)
    if banked:
        trace.await_backward(c)
    if not isinstance(trace, ELSTMTrace):
        return c, trace
    with torch.no_grad():
        advanced = ops.elstm_advance(x, c, c_0, reset, local, a, tensors, backend_name)
    return c, cast("Trace", ELSTMTrace(*advanced))


__all__ = ["Backend", "BankedTrace", "ELSTMTrace", "elstm"]
