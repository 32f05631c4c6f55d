"""Boundary term and advance in torch: as the formula says, and row by row."""

from __future__ import annotations

import torch
from torch import Tensor


def select_product(factor: Tensor, S: Tensor) -> Tensor:
    """factor * S, and 0 where the factor is 0: so a reset also erases a trace that is not finite."""
    return factor * torch.where(factor == 0, 0, S)


def advance_trace_reference(
    traces: list[Tensor], rows: Tensor, lam_0: Tensor, decay: Tensor, update: Tensor, x: Tensor
) -> Tensor:
    """The formula, letter by letter; same arguments as `kernels.trace.advance_trace_`."""
    boundary = []
    for k, bank in enumerate(traces):
        S = bank[rows].to(x.dtype)
        boundary.append(select_product(lam_0[..., None], S).sum((0, 1)))
        S = select_product(decay[..., None], S[:, None]).sum(2)
        S = S + torch.einsum("tbin,tbd->bind", update[:, :, k], x)
        bank[rows] = S.to(bank.dtype)
    return torch.stack(boundary)


def advance_trace_chunked(
    traces: list[Tensor], rows: Tensor, lam_0: Tensor, decay: Tensor, update: Tensor, x: Tensor
) -> Tensor:
    """In place: small traces all rows at once, larger ones row by row.

    For a GPU a row is a launch and a wait for `rows`; backend "triton" is one launch.
    """
    _, d, N, D = traces[0].shape
    together = d == 1 and traces[0].dtype == x.dtype and len(rows) * N * D <= _FEW_NUMBERS
    advance = _advance_together if together else _advance_row_by_row
    return advance(traces, rows, lam_0, decay, update, x)


_FEW_NUMBERS = 2**18
"""Of one matrix over the batch: up to here the calls cost more than the memory that they visit."""


def _advance_together(
    traces: list[Tensor], rows: Tensor, lam_0: Tensor, decay: Tensor, update: Tensor, x: Tensor
) -> Tensor:
    boundary = []
    for k, bank in enumerate(traces):
        S = bank[rows, 0]
        if _finite(S):
            boundary.append(torch.einsum("bn,bnd->nd", lam_0[:, 0], S))
            S.mul_(decay[:, 0, 0, :, None])
        else:
            boundary.append(select_product(lam_0[:, 0, :, None], S).sum(0))
            S = select_product(decay[:, 0, 0, :, None], S)
        S.baddbmm_(update[:, :, k, 0].permute(1, 2, 0), x.transpose(0, 1))
        bank.index_copy_(0, rows, S[:, None])
    return torch.stack(boundary)


def _advance_row_by_row(
    traces: list[Tensor], rows: Tensor, lam_0: Tensor, decay: Tensor, update: Tensor, x: Tensor
) -> Tensor:
    """A row stays in cache between its read and its write."""
    K, d = update.shape[2], lam_0.shape[1]
    N, D = traces[0].shape[2:]
    boundary = x.new_zeros(K, N, D)
    for b, row in enumerate(rows.tolist()):
        for k, bank in enumerate(traces):
            S = bank[row].to(x.dtype)  # a view of the bank, unless the bank is in bfloat16
            if _finite(S):
                before = S.clone() if d == 2 else S
                for i in range(d):
                    boundary[k].addcmul_(lam_0[b, i, :, None], before[i])
                for i in range(d):
                    S[i].mul_(decay[b, i, i, :, None])
                    if d == 2:
                        S[i].addcmul_(decay[b, i, 1 - i, :, None], before[1 - i])
            else:
                boundary[k] += select_product(lam_0[b, ..., None], S).sum(0)
                S.copy_(select_product(decay[b, ..., None], S).sum(1))
            for i in range(d):
                S[i].addmm_(update[:, b, k, i].T, x[:, b])
            if S.dtype != bank.dtype:
                bank[row] = S.to(bank.dtype)
    return boundary


def _finite(S: Tensor) -> bool:
    """Whether plain products serve. Asked of the sum: one that overflows says no, which costs time alone."""
    return bool(S.sum().isfinite())
