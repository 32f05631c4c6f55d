"""What the traces contribute, measured on a real update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors))


def rtrl_diagnostics(core: nn.Module, trace: Any, lam_0: Tensor) -> dict[str, float]:
    """Call between backward and the optimiser's step.

    `trace`: the sensitivities [B, N, ...] that the unroll started from, fields named as the core's
    parameters. `lam_0` [B, N]: gradient of the state before x_0. Their contraction is the boundary
    term, the part of the core's gradient that TBPTT does not have (kernels/elstm/README.md).

    rtrl/trace_norm: root mean square over streams of a stream's trace norm.
    rtrl/boundary_grad_frac: norm of the boundary term over norm of the core's whole gradient (it can
    exceed 1 where the two parts cancel).
    """
    boundary = [torch.einsum("bn,bn...->n...", lam_0, sensitivity) for sensitivity in trace]
    total = [core.get_parameter(name).grad for name in trace._fields]
    present = [gradient for gradient in total if gradient is not None]
    assert len(present) == len(total), "every recurrent parameter has a gradient after backward"
    return {
        "rtrl/trace_norm": _norm(trace) / math.sqrt(lam_0.shape[0]),
        "rtrl/boundary_grad_frac": _norm(boundary) / max(_norm(present), 1e-30),
    }
