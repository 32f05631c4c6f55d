"""Exact RTRL at the cost of TBPTT plus one visit to the trace, in plain torch, for any cell.

One scan forward, one scan backward, and matrix products over all T*B steps at once; README.md derives them.
Scan steps work in place on `[B, ...]` slices, which stay in cache; whole `[T, B, N]` passes do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.rtrl.cell import Cell
from kernels.trace.reference import advance_trace_chunked, select_product


def _resets(reset: Tensor) -> Sequence[Tensor | None]:
    """For each step the columns that are reset, None where there are none. Only a CPU is asked, where filling
    those columns is a twentieth of a masked fill: elsewhere the answer would stall the queue, and each step's
    mask is returned as it is."""
    if reset.device.type != "cpu":
        return reset.unbind(0)
    columns = reset.nonzero()[:, 1].split(reset.sum(1).tolist())
    return [at_t if len(at_t) else None for at_t in columns]


def _forget_(tensor: Tensor, columns: Tensor | None, axis: int = 0) -> Tensor:
    """Zeroes what belongs to the columns of `_resets`, along the batch's axis, in place."""
    if columns is None:
        return tensor
    if columns.dtype == torch.bool:
        return tensor.masked_fill_(columns.view(-1, *[1] * (tensor.ndim - axis - 1)), 0.0)
    return tensor.index_fill_(axis, columns, 0.0)


def _after_reset(before: Tensor, columns: Tensor | None) -> Tensor:
    """h_{t-1} [B, d, N] as step t consumes it: itself where no column is reset."""
    return before if columns is None else _forget_(before.clone(), columns)


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
    k, before = cell.constants(psi).unbind(0), h_0
    for t, columns in enumerate(_resets(reset)):
        before = _after_reset(before, columns)
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
    for t in reversed(range(T)):
        if e is not None:
            rows[:, 0].add_(e[t])
        before = _after_reset(h[t - 1] if t else h_0, resets[t])
        cell.pull(rows, u[t], before, h[t], extra[t], k, q[t], v)
        if cell.biases is not None:
            v[:, :, cell.biases].add_(q[t])
        _forget_(rows, resets[t])
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
    fixed = cell.fixed(cell.constants(psi).unbind(0)) if banked else None
    arrived, q, v = _reverse_scan(cell, e, banked and fixed is None, psi, h, h_0, reset, u, extra)
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
            suffix = _Suffix(arrived[:, 1:], q[:, :, 1:], v[:, 1:], x)
            if fixed is not None:
                suffix = _suffix_of_fixed(cell, *fixed, x, psi, h, h_0, reset)
            own = vectors[rows]
            grad_W += _moved_on(suffix, matrices, rows, lam, vectors)
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
    fixed = cell.fixed(cell.constants(psi).unbind(0))
    if fixed is None:
        suffix = _Suffix(*_reverse_scan(cell, None, True, psi, h, h_0, reset, u, extra), x)
    else:
        suffix = _suffix_of_fixed(cell, *fixed, x, psi, h, h_0, reset)
    matrices, vectors = (tensor.clone(memory_format=torch.contiguous_format) for tensor in trace)
    _moved_on(suffix, matrices, torch.arange(x.shape[1], device=x.device), None, vectors)
    return [matrices, vectors]


class _Suffix(NamedTuple):
    """What moves a trace over the chunk, from the suffix products P_t of Jacobians."""

    P_0: Tensor
    """[B, d, d, N]"""
    update: Tensor
    """[T, B, d, K, N]: P_t B_t"""
    v: Tensor
    """[B, d, V, N]: sum_t P_t C_t"""
    x: Tensor
    """[T, B, D]: what meets `update`."""


def _suffix_of_fixed(
    cell: Cell,
    A: Tensor,
    beta: Tensor,
    x: Tensor,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
) -> _Suffix:
    """Without a scan: P_t is a power of A, the same for all streams, but 0 where a later step is reset. There
    the inputs are masked instead, and `update` is one for all."""
    T, B, d, N = h.shape
    stored = cell.stored or d
    powers = A.new_zeros(T + 1, d, d, N)  # powers[t] = A^(T - t)
    powers[T] = torch.eye(d, dtype=A.dtype, device=A.device)[..., None]
    powers[T - 1] = A
    known = 1
    while known < T:  # by doubling
        more = min(known, T - known)
        by = powers[T - known, :, :, None] * powers[T - more : T, None]
        powers[T - known - more : T - known] = by.sum(2)
        known += more
    powers *= powers.abs() >= torch.finfo(powers.dtype).tiny  # products of denormal numbers are slow
    later = reset.flip(0).cumsum(0).flip(0) > 0  # a reset at t or later
    cut = torch.cat([later[1:], torch.zeros_like(later[:1])])
    P_0 = powers[0].expand(B, d, d, N).masked_fill(later[0, :, None, None, None], 0.0)
    sums = h.new_zeros(d, B, d, N)
    steps = zip([h_0, *h[:-1].unbind(0)], powers[1:, :, None], _resets(reset), strict=True)
    for before, power, columns in steps:
        sums.addcmul_(power, before)
        _forget_(sums, columns, axis=1)
    H = sums.sum(2).transpose(0, 1)
    moved = h[-1] - select_product(P_0, h_0[:, None]).sum(2)
    update = (powers[1:, :, :stored] * beta).movedim(0, 3).contiguous()  # time last: a row-major factor
    update = update.movedim(3, 0)[:, None].expand(T, B, d, stored, N)
    v = cell.sums(cell.constants(psi).unbind(0), H, moved)
    return _Suffix(P_0, update, v, x.masked_fill(cut[..., None], 0.0))


def _moved_on(suffix: _Suffix, matrices: Tensor, rows: Tensor, lam: Tensor | None, vectors: Tensor) -> Tensor:
    """Advances rows of a trace in place; returns the boundary terms of the matrices."""
    P_0, update, v, x = suffix
    carried = select_product(P_0[:, None], vectors[rows][:, :, None]).sum(3)
    vectors.index_copy_(0, rows, carried + v.transpose(1, 2))
    return advance_trace_chunked(matrices, rows, lam, P_0, update[:, :, :, : matrices.shape[1]], x)


def boundary_of_gathered(lam: Tensor, matrices: Tensor) -> Tensor:
    """lam [B, L, d, N] times the matrices of gathered traces [B, K, d, N, D], over streams: [K L, N, D]."""
    terms = [
        select_product(turned[..., None], S).sum((0, 1))
        for S in matrices.unbind(1)
        for turned in lam.unbind(1)
    ]
    return torch.stack(terms)
