"""Boundary term and advance in torch: as the formula says, and row by row, in place."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def select_product(factor: Tensor, S: Tensor) -> Tensor:
    """factor * S, and 0 where the factor is 0: so a reset also erases a trace that is not finite."""
    return factor * torch.where(factor == 0, 0, S)


def advance_trace_reference(
    matrices: Tensor, rows: Tensor, lam: Tensor | None, decay: Tensor, update: Tensor, x: Tensor
) -> Tensor:
    """The formula, letter by letter; same arguments as `kernels.trace.advance_trace_`."""
    D = x.shape[2]
    S = matrices[rows][..., :D].to(x.dtype)
    boundary = x.new_empty(0)
    if lam is not None:
        boundary = select_product(lam[:, None, :, :, :, None], S[:, :, None]).sum((0, 3)).flatten(0, 1)
    S = select_product(decay[:, None, ..., None], S[:, :, None]).sum(3)
    S = S + torch.einsum("tbikn,tbd->bkind", update, x)
    matrices[rows, ..., :D] = S.to(matrices.dtype)
    return boundary


def advance_trace_chunked(
    matrices: Tensor, rows: Tensor, lam: Tensor | None, decay: Tensor, update: Tensor, x: Tensor
) -> Tensor:
    """In place: small traces all rows at once, larger ones row by row.

    For a GPU a row is a launch and a wait for `rows`; backend "triton" is one launch.
    """
    numbers = len(rows) * matrices[0].numel()
    together = matrices.dtype == x.dtype and numbers <= _FEW_NUMBERS
    advance = _advance_together if together else _advance_row_by_row
    return advance(matrices, rows, lam, decay, update, x)


_FEW_NUMBERS = 2**19
"""Of the batch's rows: up to here the calls cost more than the memory that they visit."""


def _advance_together(
    matrices: Tensor, rows: Tensor, lam: Tensor | None, decay: Tensor, update: Tensor, x: Tensor
) -> Tensor:
    D, d = x.shape[2], matrices.shape[2]
    S = matrices[rows]
    boundary = x.new_empty(0)
    if _finite(S):
        if lam is not None:
            boundary = torch.einsum("blin,bkind->klnd", lam, S[..., :D]).flatten(0, 1).contiguous()
        by = decay[:, None, ..., None]
        if d == 1:
            S.mul_(by[:, :, 0])
        else:
            S = torch.addcmul(S[:, :, :1] * by[:, :, :, 0], S[:, :, 1:], by[:, :, :, 1])
    else:
        if lam is not None:
            whole = select_product(lam[:, None, :, :, :, None], S[:, :, None, ..., :D])
            boundary = whole.sum((0, 3)).flatten(0, 1)
        S = select_product(decay[:, None, ..., None], S[:, :, None]).sum(3)
    moved = update.transpose(2, 3).flatten(2).permute(1, 2, 0)
    S.flatten(1, 3)[..., :D].baddbmm_(moved, x.transpose(0, 1))
    matrices.index_copy_(0, rows, S)
    return boundary


def _advance_row_by_row(
    matrices: Tensor, rows: Tensor, lam: Tensor | None, decay: Tensor, update: Tensor, x: Tensor
) -> Tensor:
    """A row stays in cache between its read and its write. Few calls and few views: on a CPU a hundred of
    either cost as much as a pass over a row."""
    _, K, d, N, _ = matrices.shape
    D, columns = x.shape[2], decay[..., None].unbind(0)
    turns = [None] * len(columns) if lam is None else lam[..., None].unbind(0)
    boundary = x.new_zeros(K, 0 if lam is None else lam.shape[1], N, D)
    spare = x.new_empty(K, d, N, D) if d == 2 else None
    for b, (row, by, turned) in enumerate(zip(rows.tolist(), columns, turns, strict=True)):
        whole = matrices[row].to(x.dtype)  # a view of the bank, unless the bank is in bfloat16
        states = whole[..., :D]
        decayed = states if spare is None else spare  # of one number a unit: in place
        for term, S, after in zip(boundary.unbind(0), states.unbind(0), decayed.unbind(0), strict=True):
            if _finite(S):
                each = S.split(1)
                for vector, number in zip([] if turned is None else turned.unbind(1), each, strict=False):
                    term.addcmul_(vector, number)
                first, *others = zip(by.unbind(1), each, strict=True)
                torch.mul(*first, out=after)
                for factor, number in others:
                    after.addcmul_(factor, number)
            else:
                for turn, vector in enumerate(() if turned is None else turned.unbind(0)):
                    term[turn] += select_product(vector, S).sum(0)
                after.copy_(select_product(by, S).sum(1))
        if d == 1 or K == 1:  # the same order of axes: one product for all
            flat = whole.flatten(0, 2)[:, :D]
            kept = flat if spare is None else spare.flatten(0, 2)
            torch.addmm(kept, update[:, b].flatten(1).T, x[:, b], out=flat)
        else:
            for k in range(K):
                for i in range(d):
                    moved = update[:, b, i, k].T
                    torch.addmm(decayed[k, i], moved, x[:, b], out=whole[k, i, :, :D])
        if whole.dtype != matrices.dtype:
            matrices[row] = whole.to(matrices.dtype)
    return x.new_empty(0) if lam is None else boundary.flatten(0, 1)


def _finite(S: Tensor) -> bool:
    """Whether plain products serve. Asked of the sum: one that overflows says no, which costs time alone."""
    return math.isfinite(S.sum().item())
