"""IndyLSTM as a core."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cells.forget import ForgetBias, forget_biases
from kernels.cells.indylstm.cell import CELL
from kernels.cells.recurrent import CellCore


class IndyLSTM(CellCore):
    """Output h, the second of a unit's two numbers; arXiv 1903.08023. The forget gate's bias starts at
    `forget_bias`, the recurrent vectors in [-1, 1]."""

    def __init__(self, input_size: int, hidden_size: int, forget_bias: ForgetBias = 0.0) -> None:
        super().__init__(CELL, input_size, hidden_size, hidden_size)
        with torch.no_grad():
            for name in CELL.gates:
                self.get_parameter(name).normal_(std=input_size**-0.5)
            for name in CELL.vectors:
                vector = self.get_parameter(name)
                vector.uniform_(-1.0, 1.0) if name.startswith("w_") else vector.zero_()
            self.get_parameter("b_f").copy_(forget_biases(forget_bias, hidden_size))

    def output(self, x: Tensor, h: Tensor) -> Tensor:
        return h[..., 1, :]
