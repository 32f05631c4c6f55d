"""A core around an element-wise cell: everything but its start values and its output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from kernels.cells.core import Core, State, zero_at
from kernels.rtrl import BankedTrace, FixedTrace, Trace, rtrl_scan
from kernels.rtrl.cell import Cell


class CellCore(Core):
    """State (h,), h [B, d N]: the d numbers of unit 0 to N - 1, one after the other. Trained by exact RTRL or
    TBPTT.

    The cell's weight matrices [N, D] and vectors [N] are parameters under the cell's own names.
    """

    supports_rtrl = True

    def __init__(self, cell: Cell, input_size: int, num_units: int, output_size: int) -> None:
        super().__init__(input_size, output_size)
        self.cell = cell
        self.num_units = num_units
        self.trace_width = input_size
        """Numbers that a row of a weight matrix reads, and so of a row of its trace."""
        for name in cell.gates:
            self.register_parameter(name, nn.Parameter(torch.empty(num_units, input_size)))
        for name in cell.vectors:
            self.register_parameter(name, nn.Parameter(torch.empty(num_units)))

    def cells(self) -> list[CellCore]:
        """The layers with a trace of their own, lowest first: this one."""
        return [self]

    def output(self, x: Tensor, h: Tensor) -> Tensor:
        """What the layers above read: x [..., D], h [..., d, N] -> [..., output_size]."""
        raise NotImplementedError

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        weight = self.get_parameter(self.cell.gates[0])
        return (weight.new_zeros(batch, self.cell.d * self.num_units, device=device),)

    def initial_trace(self, batch: int, device: torch.device | str | None = None) -> Trace:
        weight = self.get_parameter(self.cell.gates[0])
        device = weight.device if device is None else device
        return Trace.zeros(self.cell, batch, self.num_units, self.trace_width, device, weight.dtype)

    def recurrent_parameters(self) -> list[nn.Parameter]:
        return [self.get_parameter(name) for name in (*self.cell.gates, *self.cell.vectors)]

    def boundary_term(self, trace: Trace, lam_0: Tensor) -> list[Tensor]:
        """What the trace [B, ...] before a chunk adds to the gradient of each of `recurrent_parameters`,
        given the gradient lam_0 [B, d N] of the state before it. A diagnostic: the unroll's backward forms it
        itself."""
        rows = lam_0.unflatten(1, (self.cell.d, self.num_units))
        matrices = self.cell.whole(trace.matrices)[..., : self.trace_width]
        return [
            *torch.einsum("bin,bkind->knd", rows, matrices).unbind(0),
            *torch.einsum("bin,bvin->vn", rows, trace.vectors).unbind(0),
        ]

    def trace_norms(self, trace: Trace) -> Tensor:
        """[B]: of each stream, over the traces of all parameters, stored or not; float64."""
        parts = self.cell.whole(trace.matrices), trace.vectors
        squares = [part.double().flatten(1).square().sum(1) for part in parts]
        return torch.stack(squares).sum(0).sqrt()

    def step(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        cell = self.cell
        psi: list[Tensor] = [self.get_parameter(name) for name in cell.vectors]
        biases = [None] * len(cell.gates) if cell.biases is None else psi[cell.biases]
        u = [linear(x, self.get_parameter(name), b) for name, b in zip(cell.gates, biases, strict=True)]
        before = zero_at(reset, state[0]).unflatten(1, (cell.d, self.num_units))
        h = cell.equation(torch.stack(u, 1), before, torch.stack(psi))
        return self.output(x, h), (h.flatten(1),)

    def unroll(
        self, x: Tensor, state: State, reset: Tensor, trace: Any = None, backend: str = "auto"
    ) -> tuple[Tensor, State, Trace | BankedTrace | FixedTrace | None]:
        h, trace = self._scan(x, state[0], reset, trace, backend)
        return self.output(x, h), (h[-1].flatten(1),), trace

    def unroll_immediate(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        """The unroll's values with the credit of one step: dh_t/dh_{t-1} counts as 0 in the gradient.

        A control, not a way to train: every step becomes a chunk of its own, begun from a state that is
        a constant. Shapes as in `unroll`.
        """
        T, B = reset.shape
        with torch.no_grad():
            h, _ = self._scan(x, state[0], reset, None, "auto")
        before = torch.cat([state[0][None], h[:-1].flatten(2)]).flatten(0, 1).detach()
        h, _ = self._scan(x.flatten(0, 1)[None], before, reset.flatten()[None], None, "auto")
        h = h[0].unflatten(0, (T, B))
        return self.output(x, h), (h[-1].flatten(1),)

    def _scan(self, x: Tensor, h_0: Tensor, reset: Tensor, trace: Any, backend: str) -> tuple[Tensor, Any]:
        cell = self.cell
        weights, vectors = ([self.get_parameter(n) for n in names] for names in (cell.gates, cell.vectors))
        h_0 = h_0.unflatten(1, (cell.d, self.num_units))
        return rtrl_scan(cell, x, weights, vectors, h_0, reset, trace, backend)
