"""The oracle: RTRL as its papers write it, every sensitivity advanced at every step.

Slow on purpose. It touches the whole trace T times, and takes the local derivatives of the cell's `equation`
by autograd: nothing here is fused, reordered or derived by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels.rtrl.cell import CELLS, Cell
from kernels.rtrl.trace import Trace
from kernels.trace.reference import select_product


def _local(cell: Cell, u: Tensor, before: Tensor, psi: Tensor) -> tuple[Tensor, ...]:
    """h [B, d, N] of one step, and its derivatives of every unit: A [B, d, d, N] by the state before, B [B,
    d, K, N] by the pre-activations, C [B, d, V, N] by the vectors."""
    with torch.enable_grad():
        spread = psi.detach().expand(u.shape[0], -1, -1).clone().requires_grad_()  # a copy a stream
        inputs = [before.detach().requires_grad_(), u.detach().requires_grad_(), spread]
        biased = inputs[1] if cell.biases is None else inputs[1] + spread[:, cell.biases]
        h = cell.equation(biased, inputs[0], spread.movedim(0, 1))
        by_state = [
            torch.autograd.grad(h[:, i].sum(), inputs, retain_graph=True, materialize_grads=True)
            for i in range(cell.d)
        ]
    return h.detach(), *(torch.stack(parts, 1) for parts in zip(*by_state, strict=True))


class _Reference(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        name: str,
        x: Tensor,
        W: Tensor,
        psi: Tensor,
        h_0: Tensor,
        reset: Tensor,
        matrices: Tensor,
        vectors: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        cell = CELLS[name]
        h, states, steps, trace = h_0, [], [], (matrices, vectors)
        for t in range(x.shape[0]):
            gone = reset[t, :, None, None]
            before = torch.where(gone, torch.zeros_like(h), h)
            h, A, B, C = _local(cell, torch.einsum("bd,knd->bkn", x[t], W), before, psi)
            steps.append((torch.where(gone[:, None], torch.zeros_like(A), A), B, C))
            states.append(h)
            trace = _advanced(trace, x[t], steps[-1])
        ctx.save_for_backward(
            x, W, matrices, vectors, *(torch.stack(parts) for parts in zip(*steps, strict=True))
        )
        ctx.mark_non_differentiable(*trace)
        return torch.stack(states), *trace

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, e: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """e [T, B, d, N]: the direct gradient dL/dh_t, without any path through later states."""
        x, W, matrices, vectors, A, B, C = ctx.saved_tensors
        trace = matrices, vectors
        grad_W, grad_psi = torch.zeros_like(W), matrices.new_zeros(C.shape[3:])
        for t in range(x.shape[0]):
            trace = _advanced(trace, x[t], (A[t], B[t], C[t]))
            grad_W += torch.einsum("bin,bkind->knd", e[t], trace[0])
            grad_psi += torch.einsum("bin,bvin->vn", e[t], trace[1])
        grad_x, lam = torch.empty_like(x), torch.zeros_like(e[0])
        for t in reversed(range(x.shape[0])):
            lam = e[t] + lam
            grad_x[t] = torch.einsum("bin,bikn,knd->bd", lam, B[t], W)
            lam = select_product(A[t], lam[:, :, None]).sum(1)
        return None, grad_x, grad_W, grad_psi, lam, None, None, None


def _advanced(
    trace: tuple[Tensor, Tensor], x: Tensor, step: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Sensitivities [B, K, d, N, D] and [B, V, d, N] after one more step."""
    A, B, C = step
    matrices = select_product(A[:, None, ..., None], trace[0][:, :, None]).sum(3)
    vectors = select_product(A[:, None], trace[1][:, :, None]).sum(3)
    return matrices + torch.einsum("bikn,bd->bkind", B, x), vectors + C.transpose(1, 2)


def rtrl_reference(
    cell: Cell, x: Tensor, W: Tensor, psi: Tensor, h_0: Tensor, reset: Tensor, trace: Trace | None
) -> tuple[Tensor, Trace | None]:
    """As `kernels.rtrl.rtrl_scan`, of stacked weights. TBPTT is RTRL from a trace of zeros."""
    _, B, D = x.shape
    start = Trace.zeros(cell, B, W.shape[1], D, x.device, x.dtype) if trace is None else trace
    whole = cell.whole(start.matrices)[..., :D]  # all K traces step here, each on its own
    outputs: Any = _Reference.apply(cell.name, x, W, psi, h_0, reset, whole, start.vectors)
    h, matrices, vectors = outputs
    if trace is None:
        return h, None
    stored = torch.zeros_like(trace.matrices)
    stored[..., :D] = matrices[:, : stored.shape[1]]
    return h, Trace(stored, vectors)
