"""The oracle: RTRL as the paper writes it, every sensitivity advanced at every step.

Slow on purpose. It touches the whole trace T times, so nothing here is fused, reordered or factored.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels.elstm.contract import ELSTMTrace
from kernels.trace.reference import select_product

Step = tuple[Tensor, Tensor, Tensor, Tensor]
"""What one step adds to the trace, all [B, N]: c_{t-1} after the reset, zi_t, fi_t, a_t."""


def rtrl_step(trace: ELSTMTrace, x: Tensor, step: Step) -> ELSTMTrace:
    """Advances the six sensitivities by one step. x [B, D]; equation 12 of the paper."""
    c_prev, zi, fi, a = step
    return ELSTMTrace(
        W_z=select_product(a[:, :, None], trace.W_z) + zi[:, :, None] * x[:, None, :],
        W_f=select_product(a[:, :, None], trace.W_f) + fi[:, :, None] * x[:, None, :],
        w_z=select_product(a, trace.w_z) + zi * c_prev,
        w_f=select_product(a, trace.w_f) + fi * c_prev,
        b_z=select_product(a, trace.b_z) + zi,
        b_f=select_product(a, trace.b_f) + fi,
    )


class _ReferenceELSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        W_z: Tensor,
        W_f: Tensor,
        w_z: Tensor,
        w_f: Tensor,
        b_z: Tensor,
        b_f: Tensor,
        c_0: Tensor,
        reset: Tensor,
        advance: bool,
        *trace: Tensor,
    ) -> tuple[Tensor, ...]:
        at = reset[:, :, None]
        c, states, steps, advanced = c_0, [], [], ELSTMTrace(*trace)
        for t in range(x.shape[0]):
            c_prev = c.masked_fill(at[t], 0)
            z = torch.tanh(x[t] @ W_z.T + w_z * c_prev + b_z)
            f = torch.sigmoid(x[t] @ W_f.T + w_f * c_prev + b_f)
            c = f * c_prev + (1 - f) * z
            zi = (1 - f) * (1 - z * z)
            fi = (c_prev - z) * f * (1 - f)
            a = (f + zi * w_z + fi * w_f).masked_fill(at[t], 0)
            states.append(c)
            steps.append((c_prev, zi, fi, a))
            if advance:
                advanced = rtrl_step(advanced, x[t], steps[-1])
        stacked = [torch.stack(parts) for parts in zip(*steps, strict=True)]
        ctx.save_for_backward(x, W_z, W_f, *trace, *stacked)
        if not advance:
            return (torch.stack(states),)
        ctx.mark_non_differentiable(*advanced)
        return torch.stack(states), *advanced

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, e: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """e [T, B, N]: the direct gradient dL/dc_t, without any path through later states."""
        x, W_z, W_f, *rest = ctx.saved_tensors
        trace, (c_prev, zi, fi, a) = ELSTMTrace(*rest[:6]), rest[6:]

        gradient = [torch.zeros_like(s[0]) for s in trace]
        for t in range(x.shape[0]):
            trace = rtrl_step(trace, x[t], (c_prev[t], zi[t], fi[t], a[t]))
            for g, s in zip(gradient, trace, strict=True):
                g += ((e[t][:, :, None] if s.ndim == 3 else e[t]) * s).sum(0)

        grad_x, lam = torch.empty_like(x), torch.zeros_like(e[0])
        for t in reversed(range(x.shape[0])):
            lam = e[t] + lam
            grad_x[t] = (lam * zi[t]) @ W_z + (lam * fi[t]) @ W_f
            lam = select_product(a[t], lam)
        return grad_x, *gradient, lam, None, None, *(None,) * len(trace)


def elstm_reference(
    x: Tensor,
    W_z: Tensor,
    W_f: Tensor,
    w_z: Tensor,
    w_f: Tensor,
    b_z: Tensor,
    b_f: Tensor,
    c_0: Tensor,
    reset: Tensor,
    trace: ELSTMTrace | None = None,
) -> tuple[Tensor, ELSTMTrace | None]:
    """Same arguments and results as `kernels.elstm.elstm`. TBPTT is RTRL from a trace of zeros."""
    start = trace
    if start is None:
        start = ELSTMTrace.zeros(x.shape[1], *W_z.shape, device=x.device, dtype=x.dtype)
    outputs = _ReferenceELSTM.apply(x, W_z, W_f, w_z, w_f, b_z, b_f, c_0, reset, trace is not None, *start)
    c, *advanced = cast("tuple[Tensor, ...]", outputs)
    return c, None if trace is None else ELSTMTrace(*advanced)
