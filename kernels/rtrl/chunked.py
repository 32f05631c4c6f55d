"""Exact RTRL at the cost of TBPTT plus one visit to the trace, in plain torch, for any cell.

One scan forward, one scan backward, and matrix products over all T*B steps at once; README.md derives them.
Scan steps work in place on `[B, ...]` slices, which stay in cache; whole `[T, B, N]` passes do not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.rtrl.cell import Cell
from kernels.trace.reference import advance_trace_chunked, select_product


def _resets(reset: Tensor) -> list[bool]:
    """Steps at which a column is reset. Only a CPU is asked: elsewhere the answer would stall the queue, and
    selecting always costs less."""
    return reset.any(1).tolist() if reset.device.type == "cpu" else [True] * reset.shape[0]


def _previous_states(h: Tensor, h_0: Tensor, reset: Tensor, resets: list[bool]) -> list[Tensor]:
    """h_{t-1} as step t consumes it, after the reset: T tensors [B, d, N], views of h where there is none."""
    previous = [h_0, *h[:-1].unbind(0)]
    return [
        before.masked_fill(reset[t, :, None, None], 0.0) if resets[t] else before
        for t, before in enumerate(previous)
    ]


def forward(
    cell: Cell, x: Tensor, W: Tensor, psi: Tensor, h_0: Tensor, reset: Tensor, derivatives: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """x [T, B, D], W [K, N, D], psi [V, N], h_0 [B, d, N] -> the states h [T, B, d, N], and what the cell
    left for `pull`: u [T, B, K, N] and extra [T, B, cell.extra, N]. Without `derivatives` these two mean
    nothing."""
    T, B, D = x.shape
    K, N, _ = W.shape
    flat, matrix = x.reshape(T * B, D), W.flatten(0, 1).T
    u = flat @ matrix if cell.biases is None else torch.addmm(psi[cell.biases].flatten(), flat, matrix)
    u = u.view(T, B, K, N)
    h = x.new_empty(T, B, cell.d, N)
    extra = x.new_empty(T if derivatives else 0, B, cell.extra, N)
    k, resets = cell.constants(psi).unbind(0), _resets(reset)
    before = h_0
    for t in range(T):
        if resets[t]:
            before = before.masked_fill(reset[t, :, None, None], 0.0)
        cell.step(u[t], before, k, h[t], extra[t] if derivatives else None)
        before = h[t]
    return h, u, extra


def _reverse_scan(
    cell: Cell,
    e: Tensor | None,
    suffix: bool,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Row vectors pulled from the last step to before the first: the adjoint lam of e, if given, and with
    `suffix` the d rows of the product P of Jacobians. Returns the rows [B, R, d, N] as they arrive (lam_0;
    P_0), q [T, B, R, K, N], of every step the rows times B, and v [B, R, V, N], the sums of the rows times
    C."""
    T, B, d, N = h.shape
    adjoint = int(e is not None)
    R = adjoint + suffix * d
    rows = h.new_zeros(B, R, d, N)
    for i in range(d if suffix else 0):
        rows[:, adjoint + i, i] = 1.0
    q = h.new_empty(T, B, R, u.shape[2], N)
    v = h.new_zeros(B, R, psi.shape[0], N)
    k, resets = cell.constants(psi).unbind(0), _resets(reset)
    previous = _previous_states(h, h_0, reset, resets)
    for t in reversed(range(T)):
        if e is not None:
            rows[:, 0].add_(e[t])
        cell.pull(rows, u[t], previous[t], h[t], extra[t], k, q[t], v)
        if cell.biases is not None:
            v[:, :, cell.biases].add_(q[t])
        if resets[t]:
            rows.masked_fill_(reset[t, :, None, None, None], 0.0)
    return rows, q, v


def backward(
    cell: Cell,
    e: Tensor,
    x: Tensor,
    W: Tensor,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
    trace: list[Tensor],
    rows: Tensor | None,
    need_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x (empty unless `need_x`), W, psi and h_0 from e [T, B, d, N], the direct dL/dh_t.

    trace: empty for TBPTT; else the two tensors of a `Trace`, a row for each column of the batch. Or they are
    a bank whose `rows` [B] belong to the columns, and these rows are advanced in place."""
    T, B, D = x.shape
    banked = rows is not None
    arrived, q, v = _reverse_scan(cell, e, banked, psi, h, h_0, reset, u, extra)
    lam_0 = arrived[:, 0]
    flat = q[:, :, 0].flatten(2).flatten(0, 1)
    grad_x = (flat @ W.flatten(0, 1)).view(T, B, D) if need_x else x.new_empty(0)
    grad_W = (flat.T @ x.reshape(T * B, D)).view(W.shape)
    grad_psi = v[:, 0].sum(0)
    # What follows is all that RTRL adds to TBPTT: the boundary term and, in a bank, the advance.
    if trace:
        matrices, vectors = trace
        lam = cell.turn(lam_0)
        if banked:
            P_0, stored = arrived[:, 1:], matrices.shape[1]
            grad_W += advance_trace_chunked(matrices, rows, lam, P_0, q[:, :, 1:, :stored], x)
            own = vectors[rows]
            vectors.index_copy_(0, rows, _carried(P_0, own) + v[:, 1:].transpose(1, 2))
        else:
            own = vectors
            grad_W += boundary_of_gathered(lam, matrices[..., :D])
        grad_psi += select_product(lam_0[:, None], own).sum((0, 2))
    return grad_x, grad_W, grad_psi, lam_0.clone()


def advance(
    cell: Cell,
    x: Tensor,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
    trace: list[Tensor],
) -> list[Tensor]:
    """The trace after the chunk, as new tensors: P_0 S + sum_t (P_t B_t) x_t^T."""
    P_0, q, v = _reverse_scan(cell, None, True, psi, h, h_0, reset, u, extra)
    matrices, vectors = (tensor.clone(memory_format=torch.contiguous_format) for tensor in trace)
    rows = torch.arange(x.shape[1], device=x.device)
    advance_trace_chunked(matrices, rows, None, P_0, q[:, :, :, : matrices.shape[1]], x)
    return [matrices, _carried(P_0, vectors) + v.transpose(1, 2)]


def _carried(P_0: Tensor, vectors: Tensor) -> Tensor:
    """P_0 [B, d, d, N] times the vectors of a trace [B, V, d, N]."""
    return select_product(P_0[:, None], vectors[:, :, None]).sum(3)


def boundary_of_gathered(lam: Tensor, matrices: Tensor) -> Tensor:
    """lam [B, L, d, N] times the matrices of gathered traces [B, K, d, N, D], over streams: [K L, N, D]."""
    terms = [
        select_product(turned[..., None], S).sum((0, 1))
        for S in matrices.unbind(1)
        for turned in lam.unbind(1)
    ]
    return torch.stack(terms)
