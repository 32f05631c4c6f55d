"""What the traces contribute, and how stale they are, measured on a real update."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from kernels.cells import CellCore
from kernels.rtrl import Trace


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    """[], in float64: in float32 the square of 2e19 is infinite."""
    norms = [torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in tensors]
    return torch.linalg.vector_norm(torch.stack(norms))


def gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Copies of the gradients that backward has left."""
    present = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    assert len(present) == len(parameters), "every recurrent parameter has a gradient after backward"
    return present


def boundary_share(
    cells: Sequence[CellCore], traces: Sequence[Trace], lam_0: Sequence[Tensor], gradient: Sequence[Tensor]
) -> dict[str, Tensor]:
    """`traces`: the sensitivities [B, ...] that the unroll started from, one a layer. `lam_0`: of each
    layer the gradient [B, d N] of the state before x_0. Their contraction is the boundary term, the part of
    the core's `gradient` that TBPTT does not have (kernels/rtrl/README.md).

    rtrl/trace_norm: root mean square over streams of a stream's trace norm.
    rtrl/boundary_grad_frac: norm of the boundary term over norm of the core's whole gradient (it can
    exceed 1 where the two parts cancel).
    """
    layers = list(zip(cells, traces, lam_0, strict=True))
    boundary = [term for cell, trace, lam in layers for term in cell.boundary_term(trace, lam)]
    every = [cell.trace_norms(trace) for cell, trace, _ in layers]
    return {
        "rtrl/trace_norm": _norm(every) / math.sqrt(lam_0[0].shape[0]),
        "rtrl/boundary_grad_frac": _norm(boundary) / _norm(gradient).clamp(min=1e-30),
    }


def cosine(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """[], of two gradients, all tensors of each as one vector; 1 where both are zero."""
    dot = torch.stack([(x.double() * y.double()).sum() for x, y in zip(a, b, strict=True)]).sum()
    norms = _norm(a) * _norm(b)
    return torch.where(norms > 0.0, dot / norms, 1.0)
