"""Recurrent trace units, and the linear recurrent unit trained online, as cores."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kernels.cells.recurrent import CellCore
from kernels.cells.rtu.cell import LRU as LRU_CELL
from kernels.cells.rtu.cell import RTU as RTU_CELLS
from kernels.cells.rtu.cell import RotationCell

ACTIVATION = {"relu": torch.relu, "tanh": torch.tanh, "linear": lambda h: h}


def start_rotations(core: CellCore, r_min: float, r_max: float, max_phase: float) -> None:
    """The paper's start: r^2 uniform in [r_min^2, r_max^2], theta uniform in [0, max_phase), inputs as
    LeCun's normal."""
    cell = core.cell
    assert isinstance(cell, RotationCell)
    nu, theta = core.get_parameter("nu_log"), core.get_parameter("theta_log")
    with torch.no_grad():
        square = torch.rand_like(nu) * (r_max**2 - r_min**2) + r_min**2
        # A radius that rounds to 1 has no gamma, and log(-log r) no number.
        info = torch.finfo(nu.dtype)
        log_r = 0.5 * torch.log(square.clamp(min=info.tiny, max=1.0 - info.eps))
        nu.copy_(torch.log(-log_r) if cell.radius == "exp_exp" else -log_r)
        angle = max_phase * torch.rand_like(theta)
        theta.copy_(torch.log(angle.clamp(min=info.tiny)) if cell.angle == "exp" else angle)
        for name in cell.gates:
            core.get_parameter(name).normal_(std=core.input_size**-0.5)


class RTU(CellCore):
    """Output [c_1; c_2], `2 hidden_size` wide: hidden_size counts complex units. arXiv 2409.01449.

    inside: the activation stands in the recurrence (the non-linear RTU); else behind it (the linear one).
    r_min, r_max: the radii at the start. 0 and 1, the paper's, make most units forget within two steps.
    max_phase: angles at the start are below it (arXiv 2303.06349 has the name). A unit with a ReLU inside
    forgets wherever it turns to the negative side: within pi / theta steps.
    projection: output f(P [c_1; c_2] + b) of a learned P: the paper's ablation has it of the linear one.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        activation: str = "relu",
        inside: bool = True,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2.0 * math.pi,
        radius: str = "exp_exp",
        angle: str = "exp",
        projection: bool = False,
    ) -> None:
        cell = RTU_CELLS[activation if inside else "linear", radius, angle]
        super().__init__(cell, input_size, hidden_size, 2 * hidden_size)
        self._after = ACTIVATION["linear" if inside else activation]
        start_rotations(self, r_min, r_max, max_phase)
        self.projection = nn.Linear(2 * hidden_size, 2 * hidden_size) if projection else None

    def output(self, x: Tensor, h: Tensor) -> Tensor:
        state = h.flatten(-2)
        return self._after(state if self.projection is None else self.projection(state))


class LRU(CellCore):
    """Output Re(C h) of a free complex C, `hidden_size` wide; arXiv 2303.06349, online: arXiv 2305.15947.

    Without the skip D x and without a non-linearity, as in the RTU paper's comparison. gamma_log is free, and
    starts where it normalises the state.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2.0 * math.pi,
    ) -> None:
        super().__init__(LRU_CELL, input_size, hidden_size, hidden_size)
        start_rotations(self, r_min, r_max, max_phase)
        self.readout = nn.Linear(2 * hidden_size, hidden_size, bias=False)  # [Re C, -Im C]
        with torch.no_grad():
            r = torch.exp(-torch.exp(self.get_parameter("nu_log")))
            self.get_parameter("gamma_log").copy_(0.5 * torch.log1p(-r * r))
            for name in LRU_CELL.gates:
                self.get_parameter(name).normal_(std=(2 * input_size) ** -0.5)
            self.readout.weight.normal_(std=hidden_size**-0.5)

    def output(self, x: Tensor, h: Tensor) -> Tensor:
        return self.readout(h.flatten(-2))
