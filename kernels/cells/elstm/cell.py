"""The eLSTM's recurrence: one number a unit, two gates with biases, two recurrent vectors. README.md has
it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.rtrl.cell import Cell, register


class ELSTMCell(Cell):
    """z = tanh(u^z + w_z c), f = sigm(u^f + w_f c), c <- f c + (1 - f) z: equations 5 to 7 of arXiv
    2305.19044."""

    name = "elstm"
    d = 1
    gates = ("W_z", "W_f")
    vectors = ("w_z", "w_f", "b_z", "b_f")
    biases = slice(2, 4)
    extra = 1
    """a = dc_t/dc_{t-1}; and u turns from pre-activations into zi and fi, the derivatives by them."""

    def equation(self, u: Tensor, before: Tensor, psi: Tensor) -> Tensor:
        c = before[:, 0]
        z = torch.tanh(torch.addcmul(u[:, 0], psi[0], c))
        f = torch.sigmoid(torch.addcmul(u[:, 1], psi[1], c))
        return torch.lerp(z, c, f)[:, None]

    def step(self, u: Tensor, before: Tensor, k: Sequence[Tensor], h: Tensor, extra: Tensor | None) -> None:
        w_z, w_f, c, z, f = k[0], k[1], before[:, 0], u[:, 0], u[:, 1]
        z.addcmul_(w_z, c).tanh_()
        f.addcmul_(w_f, c).sigmoid_()
        moved = torch.sub(c, z).mul_(f)
        torch.add(z, moved, out=h[:, 0])  # f c + (1 - f) z
        if extra is None:
            return
        # Taking h - z for `moved` would cancel where f is small.
        closed, a = 1 - f, extra[:, 0]
        moved.mul_(closed)  # fi = f (1 - f) (c - z)
        torch.addcmul(f, w_f, moved, out=a)
        f.copy_(moved)
        torch.mul(z, z, out=moved)
        torch.addcmul(closed, closed, moved, value=-1, out=z)  # zi = (1 - f) (1 - z^2)
        a.addcmul_(w_z, z)

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
        v[:, :, :2].addcmul_(q, before[:, None])
        rows.mul_(extra[:, None])

    def triton(self) -> tuple[Any, Any]:
        from kernels.cells.elstm import triton

        return triton.step, triton.pull


CELL = register(ELSTMCell())
