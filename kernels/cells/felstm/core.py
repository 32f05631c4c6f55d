"""The eLSTM with full recurrent matrices: by TBPTT, or by SnAp-1 as RTRL of an eLSTM. README.md has both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from kernels.cells.core import State, zero_at
from kernels.cells.elstm.cell import CELL
from kernels.cells.forget import ForgetBias, forget_biases
from kernels.cells.recurrent import CellCore
from kernels.rtrl import Trace, rtrl_scan


class FELSTM(CellCore):
    """State (c,), output h = sigm(W_o [x; c] + b_o) * c, as the eLSTM's.

    Starts as the eLSTM does; the recurrent matrices R_z and R_f as Normal(0, 0.1 / sqrt(N)), so that their
    sum over units is as large as the eLSTM's one term.
    """

    supports_rtrl = False
    """A trace makes it SnAp-1, which is approximate."""
    W_z: nn.Parameter
    W_f: nn.Parameter
    R_z: nn.Parameter
    R_f: nn.Parameter
    b_z: nn.Parameter
    b_f: nn.Parameter

    def __init__(self, input_size: int, hidden_size: int, forget_bias: ForgetBias = 0.0) -> None:
        super().__init__(CELL, input_size, hidden_size, hidden_size)
        self.trace_width = input_size + hidden_size
        del self.w_z, self.w_f  # the diagonals of R
        for name in ("R_z", "R_f"):
            self.register_parameter(name, nn.Parameter(torch.empty(hidden_size, hidden_size)))
        self.output_gate = nn.Linear(input_size + hidden_size, hidden_size)
        with torch.no_grad():
            for name in ("W_z", "W_f", "b_z", "b_f"):
                self.get_parameter(name).normal_(std=0.1)
            for name in ("R_z", "R_f"):
                self.get_parameter(name).normal_(std=0.1 * hidden_size**-0.5)
            self.b_f.add_(forget_biases(forget_bias, hidden_size))

    def output(self, x: Tensor, h: Tensor) -> Tensor:
        c = h.squeeze(-2)
        return torch.sigmoid(self.output_gate(torch.cat([x, c], dim=-1))) * c

    def recurrent_parameters(self) -> list[nn.Parameter]:
        return [self.W_z, self.W_f, self.R_z, self.R_f, self.b_z, self.b_f]

    def boundary_term(self, trace: Trace, lam_0: Tensor) -> list[Tensor]:
        z, f, w_z, w_f, b_z, b_f = super().boundary_term(trace, lam_0)
        D = self.input_size
        R = [_off_diagonal(M[:, D:]) + torch.diag(own) for M, own in ((z, w_z), (f, w_f))]
        return [z[:, :D], f[:, :D], *R, b_z, b_f]

    def step(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        c = self._through_time(x[None], state[0], reset[None])[0]
        return self.output(x, c), (c[:, 0],)

    def _through_time(self, x: Tensor, c: Tensor, reset: Tensor) -> Tensor:
        """The states [T, B, 1, N], by differentiable operations."""
        u = linear(x, torch.cat([self.W_z, self.W_f]), torch.cat([self.b_z, self.b_f]))
        R = torch.cat([self.R_z, self.R_f]).T
        states = []
        for u_t, reset_t in zip(u, reset, strict=True):
            c = zero_at(reset_t, c)
            z, f = torch.addmm(u_t, c, R).chunk(2, -1)
            c = torch.lerp(torch.tanh(z), c, torch.sigmoid(f))
            states.append(c)
        return torch.stack(states)[:, :, None]

    def _scan(self, x: Tensor, h_0: Tensor, reset: Tensor, trace: Any, backend: str) -> tuple[Tensor, Any]:
        if trace is None:
            if backend != "auto":
                raise ValueError(f"backend = {backend!r}: TBPTT of a full matrix has no choice, pass 'auto'")
            return self._through_time(x, h_0, reset), None
        with torch.no_grad():
            c = self._through_time(x, h_0, reset)
            before = zero_at(reset, torch.cat([h_0[None], c[:-1, :, 0]]))
        weights = [
            torch.cat([W, _off_diagonal(R)], 1) for W, R in ((self.W_z, self.R_z), (self.W_f, self.R_f))
        ]
        vectors = [self.R_z.diagonal(), self.R_f.diagonal(), self.b_z, self.b_f]
        inputs = torch.cat([x, before], -1)
        return rtrl_scan(CELL, inputs, weights, vectors, h_0[:, None], reset, trace, backend)


def _off_diagonal(R: Tensor) -> Tensor:
    return R - torch.diag(R.diagonal())
