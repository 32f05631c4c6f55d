"""Free 2 x 2 blocks as a core."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.cells.block_diagonal.cell import CELL
from kernels.cells.recurrent import CellCore


class BlockDiagonal(CellCore):
    """Output [c_1; c_2], `2 hidden_size` wide: hidden_size counts blocks. They start as the trace units'
    scaled rotations do, r^2 uniform in [r_min^2, r_max^2], angles below max_phase; the released
    code has no such baseline to follow."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2.0 * math.pi,
    ) -> None:
        super().__init__(CELL, input_size, hidden_size, 2 * hidden_size)
        with torch.no_grad():
            r = (torch.rand(hidden_size) * (r_max**2 - r_min**2) + r_min**2).sqrt()
            theta = max_phase * torch.rand(hidden_size)
            for name, value in zip(
                CELL.vectors,
                (r * theta.cos(), -r * theta.sin(), r * theta.sin(), r * theta.cos()),
                strict=True,
            ):
                self.get_parameter(name).copy_(value)
            for name in CELL.gates:
                self.get_parameter(name).normal_(std=input_size**-0.5)

    def output(self, x: Tensor, h: Tensor) -> Tensor:
        return h.flatten(-2)
