"""minGRU's recurrence: one number a unit, both gates of the input alone, linear in the state. README.md has
it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.rtrl.cell import Cell, register


class MinGRUCell(Cell):
    """z = sigm(u^z), n = u^n, h <- (1 - z) h + z n: section 3.1 of arXiv 2410.01201."""

    name = "mingru"
    d = 1
    gates = ("W_z", "W_n")
    vectors = ("b_z", "b_n")
    biases = slice(0, 2)

    def equation(self, u: Tensor, before: Tensor, psi: Tensor) -> Tensor:
        return torch.lerp(before, u[:, 1:], torch.sigmoid(u[:, :1]))

    def step(self, u: Tensor, before: Tensor, k: Sequence[Tensor], h: Tensor, extra: Tensor | None) -> None:
        z, n, c = u[:, 0].sigmoid_(), u[:, 1], before[:, 0]
        moved = n - c
        torch.addcmul(c, z, moved, out=h[:, 0])
        if extra is not None:  # u turns into (z (1 - z) (n - h), z), the derivatives by the gates
            n.copy_(z)
            torch.addcmul(z, z, z, value=-1, out=z).mul_(moved)

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
        torch.mul(u[:, None], rows, out=q)
        rows[:, :, 0].sub_(q[:, :, 1])

    def triton(self) -> tuple[Any, Any]:
        from kernels.cells.mingru import triton

        return triton.step, triton.pull


CELL = register(MinGRUCell())
