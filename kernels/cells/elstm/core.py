"""The eLSTM of the paper: the recurrence, and an output gate outside of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernels.cells.elstm.cell import CELL
from kernels.cells.forget import ForgetBias, forget_biases
from kernels.cells.recurrent import CellCore


class ELSTM(CellCore):
    """State (c,), output h = sigm(W_o [x; c] + b_o) * c; equations 5 to 7 of arXiv 2305.19044.

    The six recurrent parameters start as Normal(0, 0.1), the forget biases around
    `forget_biases(forget_bias, N)`.
    """

    W_z: nn.Parameter
    W_f: nn.Parameter
    w_z: nn.Parameter
    w_f: nn.Parameter
    b_z: nn.Parameter
    b_f: nn.Parameter

    def __init__(self, input_size: int, hidden_size: int, forget_bias: ForgetBias = 0.0) -> None:
        super().__init__(CELL, input_size, hidden_size, hidden_size)
        self.output_gate = nn.Linear(input_size + hidden_size, hidden_size)
        for parameter in self.recurrent_parameters():
            nn.init.normal_(parameter, std=0.1)
        with torch.no_grad():
            self.b_f.add_(forget_biases(forget_bias, hidden_size))

    def output(self, x: Tensor, h: Tensor) -> Tensor:
        c = h.squeeze(-2)
        return torch.sigmoid(self.output_gate(torch.cat([x, c], dim=-1))) * c
