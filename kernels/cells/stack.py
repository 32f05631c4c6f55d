"""A stack of eLSTM layers under the known approximation of RTRL for depth.

Exact RTRL of a stack needs the sensitivity of every layer's state to the weights of every layer below
it, and those Jacobians are full matrices. Here each layer carries the exact trace of its own state alone,
and errors go down through the layers within the step and the unroll (Zucchet et al., "Online learning of
long-range dependencies", NeurIPS 2023, arXiv 2305.15947, section 4). What is lost is how a lower layer's
weights had moved the upper layers' states before the unroll. So the top layer's gradient is exact, every
other one approximate, and with a single layer nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kernels.cells.core import Core, State
from kernels.cells.elstm import ELSTM
from kernels.elstm import BankedTrace, ELSTMTrace


class ELSTMStack(Core):
    """`num_layers` eLSTMs, each reading the output of the one below. State: one c [B, N] a layer."""

    layers: nn.ModuleList

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, forget_bias: float = 0.0) -> None:
        super().__init__(input_size, hidden_size)
        if num_layers < 1:
            raise ValueError(f"num_layers = {num_layers}: needs at least 1")
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(ELSTM(size, hidden_size, forget_bias) for size in sizes)

    def cells(self) -> list[ELSTM]:
        """The layers, lowest first."""
        return [layer for layer in self.layers if isinstance(layer, ELSTM)]

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        return tuple(cell.initial_state(batch, device)[0] for cell in self.cells())

    def initial_trace(self, batch: int, device: torch.device | str | None = None) -> list[ELSTMTrace]:
        return [cell.initial_trace(batch, device) for cell in self.cells()]

    def recurrent_parameters(self) -> list[nn.Parameter]:
        return [parameter for cell in self.cells() for parameter in cell.recurrent_parameters()]

    def step(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        following: list[Tensor] = []
        for cell, c in zip(self.cells(), state, strict=True):
            x, (c_next,) = cell.step(x, (c,), reset)
            following.append(c_next)
        return x, tuple(following)

    def unroll(
        self,
        x: Tensor,
        state: State,
        reset: Tensor,
        trace: Sequence[ELSTMTrace | BankedTrace] | None = None,
        backend: str = "auto",
    ) -> tuple[Tensor, State, list[ELSTMTrace | BankedTrace] | None]:
        """As `Core.unroll`; `trace` is one a layer, lowest first. Approximate below the top layer."""
        following: list[Tensor] = []
        traces: list[ELSTMTrace | BankedTrace] = []
        for index, (cell, c) in enumerate(zip(self.cells(), state, strict=True)):
            x, (c_next,), advanced = cell.unroll(
                x, (c,), reset, None if trace is None else trace[index], backend
            )
            following.append(c_next)
            if advanced is not None:
                traces.append(advanced)
        return x, tuple(following), None if trace is None else traces

    def unroll_immediate(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        """As `ELSTM.unroll_immediate`, layer by layer."""
        following: list[Tensor] = []
        for cell, c in zip(self.cells(), state, strict=True):
            x, (c_next,) = cell.unroll_immediate(x, (c,), reset)
            following.append(c_next)
        return x, tuple(following)
