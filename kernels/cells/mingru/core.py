"""minGRU as a core."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cells.forget import ForgetBias, forget_biases
from kernels.cells.mingru.cell import CELL
from kernels.cells.recurrent import CellCore


class MinGRU(CellCore):
    """Output h. Gates of the input alone: arXiv 2410.01201. `forget_bias` keeps: the gate z starts at
    -forget_bias."""

    def __init__(self, input_size: int, hidden_size: int, forget_bias: ForgetBias = 0.0) -> None:
        super().__init__(CELL, input_size, hidden_size, hidden_size)
        with torch.no_grad():
            for name in CELL.gates:
                self.get_parameter(name).normal_(std=input_size**-0.5)
            self.get_parameter("b_z").copy_(-forget_biases(forget_bias, hidden_size))
            self.get_parameter("b_n").zero_()

    def output(self, x: Tensor, h: Tensor) -> Tensor:
        return h.squeeze(-2)
