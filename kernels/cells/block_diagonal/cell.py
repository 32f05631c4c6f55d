"""A free 2 x 2 block a unit: the trace unit's rival without its parameterisation. README.md has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.rtrl.cell import Cell, register


class BlockDiagonalCell(Cell):
    """h <- tanh(M h + u), M = [[m_11, m_12], [m_21, m_22]] of each unit."""

    name = "block_diagonal"
    d = 2
    gates = ("W_1", "W_2")
    vectors = ("m_11", "m_12", "m_21", "m_22")

    def equation(self, u: Tensor, before: Tensor, psi: Tensor) -> Tensor:
        c_1, c_2 = before[:, 0], before[:, 1]
        return torch.tanh(torch.stack([psi[0] * c_1 + psi[1] * c_2, psi[2] * c_1 + psi[3] * c_2], 1) + u)

    def step(self, u: Tensor, before: Tensor, k: Sequence[Tensor], h: Tensor, extra: Tensor | None) -> None:
        c_1, c_2 = before[:, 0], before[:, 1]
        torch.addcmul(u[:, 0], k[0], c_1, out=h[:, 0]).addcmul_(k[1], c_2)
        torch.addcmul(u[:, 1], k[2], c_1, out=h[:, 1]).addcmul_(k[3], c_2)
        h.tanh_()

    def pull(
        self,
        rows: Tensor,
        u: Tensor,
        before: Tensor,
        after: Tensor,
        extra: Tensor,
        k: Sequence[Tensor],
        q: Tensor,
        v: Tensor,
    ) -> None:
        torch.mul(rows, torch.addcmul(after.new_ones(()), after, after, value=-1)[:, None], out=q)
        v[:, :, :2].addcmul_(q[:, :, :1], before[:, None])
        v[:, :, 2:].addcmul_(q[:, :, 1:], before[:, None])
        torch.mul(q[:, :, 0], k[0], out=rows[:, :, 0]).addcmul_(q[:, :, 1], k[2])
        torch.mul(q[:, :, 0], k[1], out=rows[:, :, 1]).addcmul_(q[:, :, 1], k[3])

    def triton(self) -> tuple[Any, Any]:
        from kernels.cells.block_diagonal import triton

        return triton.step, triton.pull


CELL = register(BlockDiagonalCell())
