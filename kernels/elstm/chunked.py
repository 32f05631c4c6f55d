"""Exact RTRL at the cost of TBPTT plus one visit to the trace, in plain torch.

One scan forward, one scan backward, and matrix products over all T*B steps at once; README.md derives
them. The gates z and f are stacked, `[..., 2, N]`, so that each scan step and each product serves both.
Scan steps work in place on `[B, 2, N]` slices, which stay in cache; whole `[T, B, N]` passes do not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.trace.reference import advance_trace_chunked, select_product


def _resets(reset: Tensor) -> tuple[list[bool], Tensor]:
    """Steps at which a column is reset, and reset as [T, B, 1], to fill with 0 by: 0 * inf would be NaN.

    Only a CPU is asked: elsewhere the answer would stall the queue, and filling always costs less.
    """
    steps = reset.any(1).tolist() if reset.device.type == "cpu" else [True] * reset.shape[0]
    return steps, reset[:, :, None]


def previous_states(c: Tensor, c_0: Tensor, reset: Tensor) -> list[Tensor]:
    """c_{t-1} as step t consumes it, after the reset: T tensors [B, N], views of c where there is none."""
    resets, at = _resets(reset)
    previous = [c_0, *c[:-1].unbind(0)]
    return [c_prev.masked_fill(at[t], 0) if resets[t] else c_prev for t, c_prev in enumerate(previous)]


def forward(
    x: Tensor, W: Tensor, w: Tensor, b: Tensor, c_0: Tensor, reset: Tensor, derivatives: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gates and states. x [T, B, D], W [2, N, D], w and b [2, N]; stacked z before f.

    Returns c [T, B, N], the local derivatives dc_t/du_t [T, B, 2, N] with respect to the gates'
    pre-activations u (zi and fi of README.md), and a = dc_t/dc_{t-1} [T, B, N]. Without `derivatives`
    the second means nothing and the third is empty.
    """
    T, B, D = x.shape
    N = w.shape[1]
    u = torch.addmm(b.flatten(), x.reshape(T * B, D), W.flatten(0, 1).T).view(T, B, 2, N)
    c = x.new_empty(T, B, N)
    a = x.new_empty(T if derivatives else 0, B, N)
    one, closed, moved = x.new_ones(()), x.new_empty(B, N), x.new_empty(B, N)
    resets, at = _resets(reset)

    c_prev = c_0
    for t in range(T):
        if resets[t]:
            c_prev = c_prev.masked_fill(at[t], 0)
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
                a[t].masked_fill_(at[t], 0)
        c_prev = c[t]
    return c, u, a


def _suffix_scan(previous: list[Tensor], local: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With P_t the product of a_s over s > t: P_t local_t [T, B, 2, N], P_0 [B, N], and [B, 4, N], what the
    chunk adds to the vectors of the trace (w_z, w_f, b_z, b_f)."""
    T, B, _, N = local.shape
    p, P, added = torch.empty_like(local), torch.ones_like(a[0]), local.new_zeros(B, 4, N)
    for t in reversed(range(T)):
        torch.mul(local[t], P[:, None], out=p[t])
        added[:, :2].addcmul_(p[t], previous[t][:, None])
        added[:, 2:].add_(p[t])
        P.mul_(a[t])
    return p, P, added


def backward(
    e: Tensor,
    x: Tensor,
    W: Tensor,
    c: Tensor,
    c_0: Tensor,
    reset: Tensor,
    local: Tensor,
    a: Tensor,
    trace: list[Tensor],
    rows: Tensor | None,
    need_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x (empty unless `need_x`), W, w, b and c_0 from e [T, B, N], the direct dL/dc_t.

    trace: empty for TBPTT; else six tensors, as in ELSTMTrace, with a row for each column of the batch. Or
    they are a bank whose `rows` [B] belong to the columns, and these rows are advanced in place.
    """
    T, B, D = x.shape
    N = W.shape[1]
    previous = previous_states(c, c_0, reset)
    d = torch.empty_like(local)  # dL/du_t = lam_t * local_t
    lam, gradient = torch.zeros_like(c_0), x.new_zeros(B, 4, N)
    for t in reversed(range(T)):
        lam.add_(e[t])
        torch.mul(local[t], lam[:, None], out=d[t])
        gradient[:, :2].addcmul_(d[t], previous[t][:, None])
        gradient[:, 2:].add_(d[t])
        lam.mul_(a[t])

    flat = d.view(T * B, 2 * N)
    grad_x = (flat @ W.flatten(0, 1)).view(T, B, D) if need_x else x.new_empty(0)
    grad_W = (flat.T @ x.reshape(T * B, D)).view(2, N, D)
    # What follows is all that RTRL adds to TBPTT: the boundary term and, in a bank, the advance.
    if rows is not None:
        p, P, added = _suffix_scan(previous, local, a)
        banks = [s[:, None] for s in trace[:2]]
        grad_W += advance_trace_chunked(banks, rows, lam[:, None], P[:, None, None], p[:, :, :, None], x)
        vectors = torch.stack([s[rows] for s in trace[2:]], 1)
        gradient += select_product(lam[:, None], vectors)
        added += select_product(P[:, None], vectors)
        for s, advanced in zip(trace[2:], added.unbind(1), strict=True):
            s.index_copy_(0, rows, advanced)
    elif trace:
        grad_W += torch.stack([select_product(lam[:, :, None], s).sum(0) for s in trace[:2]])
        gradient += select_product(lam[:, None], torch.stack(trace[2:], 1))
    grad_w, grad_b = gradient.sum(0).view(2, 2, N).unbind(0)
    return grad_x, grad_W, grad_w, grad_b.clone(), lam


def advance(
    x: Tensor, c: Tensor, c_0: Tensor, reset: Tensor, local: Tensor, a: Tensor, trace: list[Tensor]
) -> list[Tensor]:
    """The trace after the chunk, as new tensors: P_0 S + sum_t (P_t local_t) x_t^T."""
    p, P, added = _suffix_scan(previous_states(c, c_0, reset), local, a)
    matrices = [
        select_product(P[:, :, None], s).baddbmm_(p[:, :, gate].permute(1, 2, 0), x.transpose(0, 1))
        for gate, s in enumerate(trace[:2])
    ]
    vectors = [new + select_product(P, s) for s, new in zip(trace[2:], added.unbind(1), strict=True)]
    return matrices + vectors
