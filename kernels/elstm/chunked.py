"""Exact RTRL at the cost of TBPTT plus one visit to the trace, in plain torch.

One scan forward, one scan backward, and matrix products over all T*B steps at once; README.md derives
them. The gates z and f are stacked, `[..., 2, N]`, so that each scan step and each product serves both.
Scan steps work in place on `[B, 2, N]` slices, which stay in cache; whole `[T, B, N]` passes do not.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels.elstm.contract import ELSTMTrace


def previous_states(c: Tensor, c_0: Tensor, reset: Tensor) -> list[Tensor]:
    """c_{t-1} as step t consumes it, after the reset: T tensors [B, N].

    Without a reset it is a view of c. Whether there is one is asked only on the CPU: elsewhere the
    answer would stall the queue, and the product costs less.
    """
    T = c.shape[0]
    resets = reset.any(1).tolist() if reset.device.type == "cpu" else [True] * T
    keep = (~reset)[:, :, None].to(c.dtype)
    previous = [c_0, *c[:-1].unbind(0)]
    return [c_prev * keep[t] if resets[t] else c_prev for t, c_prev in enumerate(previous)]


def forward_scan(
    x: Tensor, W: Tensor, w: Tensor, b: Tensor, c_0: Tensor, reset: Tensor, derivatives: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gates and states. x [T, B, D], W [2, N, D], w and b [2, N]; stacked z before f.

    Returns c [T, B, N] and, if asked for, the local derivatives: dc_t/du_t [T, B, 2, N] with respect to
    the gates' pre-activations u (zi and fi of README.md) and a = dc_t/dc_{t-1} [T, B, N], both exact.
    """
    T, B, D = x.shape
    N = w.shape[1]
    u = torch.addmm(b.flatten(), x.reshape(T * B, D), W.flatten(0, 1).T).view(T, B, 2, N)
    c = x.new_empty(T, B, N)
    a = x.new_empty(T if derivatives else 0, B, N)
    one, closed, moved = x.new_ones(()), x.new_empty(B, N), x.new_empty(B, N)
    resets = reset.any(1).tolist() if x.device.type == "cpu" else [True] * T
    keep = (~reset)[:, :, None].to(x.dtype)

    c_prev = c_0
    for t in range(T):
        if resets[t]:
            c_prev = c_prev * keep[t]
        u[t].addcmul_(w, c_prev[:, None])
        z, f = u[t, :, 0].tanh_(), u[t, :, 1].sigmoid_()
        torch.sub(c_prev, z, out=moved).mul_(f)
        torch.add(z, moved, out=c[t])  # f c_prev + (1 - f) z
        if derivatives:
            # u[t] turns from (z, f) into (zi, fi). Taking c - z for `moved` would cancel where f is small.
            torch.sub(one, f, out=closed)
            moved.mul_(closed)  # fi = f (1 - f) (c_prev - z)
            torch.addcmul(f, w[1], moved, out=a[t])
            f.copy_(moved)
            torch.mul(z, z, out=moved)
            torch.addcmul(closed, closed, moved, value=-1, out=z)  # zi = (1 - f) (1 - z^2)
            a[t].addcmul_(w[0], z)
            if resets[t]:
                a[t].mul_(keep[t])
        c_prev = c[t]
    return c, u, a


class _ChunkedELSTM(torch.autograd.Function):
    """Inputs x, W, w, b, c_0, reset, derivatives, *trace; outputs c and the advanced trace."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        W: Tensor,
        w: Tensor,
        b: Tensor,
        c_0: Tensor,
        reset: Tensor,
        differentiate: bool,
        *trace: Tensor,
    ) -> tuple[Tensor, ...]:
        c, local, a = forward_scan(x, W, w, b, c_0, reset, differentiate or bool(trace))
        advanced = _advance(x, c, c_0, reset, local, a, ELSTMTrace(*trace)) if trace else ()
        if differentiate:
            ctx.save_for_backward(x, W, c, c_0, reset, local, a, *trace)
        ctx.mark_non_differentiable(*advanced)
        return c, *advanced

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, e: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """e [T, B, N]: the direct gradient dL/dc_t, without any path through later states."""
        x, W, c, c_0, reset, local, a, *trace = ctx.saved_tensors
        T, B, D = x.shape
        N = W.shape[1]
        previous = previous_states(c, c_0, reset)
        d = torch.empty_like(local)  # dL/du_t = lam_t * local_t
        lam, grad_w, grad_b = torch.zeros_like(c_0), x.new_zeros(B, 2, N), x.new_zeros(B, 2, N)
        for t in reversed(range(T)):
            lam.add_(e[t])
            torch.mul(local[t], lam[:, None], out=d[t])
            grad_b.add_(d[t])
            grad_w.addcmul_(d[t], previous[t][:, None])
            lam.mul_(a[t])

        rows = d.view(T * B, 2 * N)
        grad_x = (rows @ W.flatten(0, 1)).view(T, B, D) if ctx.needs_input_grad[0] else None
        grad_W = (rows.T @ x.reshape(T * B, D)).view(2, N, D)
        grad_w, grad_b = grad_w.sum(0), grad_b.sum(0)
        if trace:  # the boundary term: all that RTRL adds to TBPTT
            S = ELSTMTrace(*trace)
            grad_W[0] += torch.einsum("bn,bnd->nd", lam, S.W_z)
            grad_W[1] += torch.einsum("bn,bnd->nd", lam, S.W_f)
            grad_w += torch.stack([(lam * S.w_z).sum(0), (lam * S.w_f).sum(0)])
            grad_b += torch.stack([(lam * S.b_z).sum(0), (lam * S.b_f).sum(0)])
        return grad_x, grad_W, grad_w, grad_b, lam, None, None, *(None,) * len(trace)


def _advance(
    x: Tensor, c: Tensor, c_0: Tensor, reset: Tensor, local: Tensor, a: Tensor, trace: ELSTMTrace
) -> tuple[Tensor, ...]:
    """The trace after the chunk: P_0 S + sum_t (P_t local_t) x_t^T, P_t the product of a_s over s > t."""
    p = torch.empty_like(local)  # P_t * local_t
    P, s_w, s_b = torch.ones_like(c_0), torch.zeros_like(local[0]), torch.zeros_like(local[0])
    previous = previous_states(c, c_0, reset)
    for t in reversed(range(x.shape[0])):
        torch.mul(local[t], P[:, None], out=p[t])
        s_b.add_(p[t])
        s_w.addcmul_(p[t], previous[t][:, None])
        P.mul_(a[t])

    def matrix(S: Tensor, gate: int) -> Tensor:
        return (S * P[:, :, None]).baddbmm_(p[:, :, gate].permute(1, 2, 0), x.transpose(0, 1))

    vectors = zip(trace[2:], (s_w[:, 0], s_w[:, 1], s_b[:, 0], s_b[:, 1]), strict=True)
    return matrix(trace.W_z, 0), matrix(trace.W_f, 1), *(torch.addcmul(new, S, P) for S, new in vectors)


def elstm_chunked(
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
    """Same arguments and results as `kernels.elstm.elstm`."""
    weights = (W_z, W_f, w_z, w_f, b_z, b_f)
    differentiate = torch.is_grad_enabled() and any(v.requires_grad for v in (x, c_0, *weights))
    W, w, b = torch.stack([W_z, W_f]), torch.stack([w_z, w_f]), torch.stack([b_z, b_f])
    outputs = _ChunkedELSTM.apply(x, W, w, b, c_0, reset, differentiate, *(trace or ()))
    c, *advanced = cast("tuple[Tensor, ...]", outputs)
    return c, None if trace is None else ELSTMTrace(*advanced)
