"""IndyLSTM's recurrence: an LSTM whose recurrent weights are vectors; (c, h) of each unit. README.md has
it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.rtrl.cell import Cell, register


class IndyLSTMCell(Cell):
    """i, f, o = sigm(u + w h), g = tanh(u^g + w_g h), c <- f c + i g, h <- o tanh(c): arXiv 1903.08023."""

    name = "indylstm"
    d = 2
    gates = ("W_i", "W_f", "W_g", "W_o")
    vectors = ("w_i", "w_f", "w_g", "w_o", "b_i", "b_f", "b_g", "b_o")
    biases = slice(4, 8)
    extra = 1
    """tanh(c_t); and u turns from pre-activations into i, f, g, o."""

    def equation(self, u: Tensor, before: Tensor, psi: Tensor) -> Tensor:
        c, h = before[:, 0], before[:, 1]
        i, f = torch.sigmoid(u[:, 0] + psi[0] * h), torch.sigmoid(u[:, 1] + psi[1] * h)
        g, o = torch.tanh(u[:, 2] + psi[2] * h), torch.sigmoid(u[:, 3] + psi[3] * h)
        c = f * c + i * g
        return torch.stack([c, o * torch.tanh(c)], 1)

    def step(self, u: Tensor, before: Tensor, k: Sequence[Tensor], h: Tensor, extra: Tensor | None) -> None:
        for gate in range(4):
            u[:, gate].addcmul_(k[gate], before[:, 1])
        u[:, :2].sigmoid_()
        u[:, 2].tanh_()
        u[:, 3].sigmoid_()
        i, f, g, o = u.unbind(1)
        c = torch.mul(f, before[:, 0], out=h[:, 0]).addcmul_(i, g)
        squashed = torch.tanh(c) if extra is None else torch.tanh(c, out=extra[:, 0])
        torch.mul(o, squashed, out=h[:, 1])

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
        i, f, g, o = (gate[:, None] for gate in u.unbind(1))
        squashed, one = extra, u.new_ones(())
        r_c, r_h = rows[:, :, 0], rows[:, :, 1]
        torch.mul(r_h, squashed * (o - o * o), out=q[:, :, 3])
        r_c.addcmul_(
            r_h, torch.addcmul(one, squashed, squashed, value=-1) * o
        )  # h_t is also a function of c_t
        torch.mul(r_c, g * (i - i * i), out=q[:, :, 0])
        torch.mul(r_c, before[:, None, 0] * (f - f * f), out=q[:, :, 1])
        torch.mul(r_c, torch.addcmul(one, g, g, value=-1) * i, out=q[:, :, 2])
        v[:, :, :4].addcmul_(q, before[:, None, 1:])
        r_c.mul_(f)
        torch.mul(q[:, :, 0], k[0], out=r_h)
        for gate in range(1, 4):
            r_h.addcmul_(q[:, :, gate], k[gate])

    def triton(self) -> tuple[Any, Any]:
        from kernels.cells.indylstm import triton

        return triton.step, triton.pull


CELL = register(IndyLSTMCell())
