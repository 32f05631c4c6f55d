"""A stack of layers under the known approximation of RTRL for depth.

Exact RTRL of a stack needs the sensitivity of every layer's state to the weights of every layer below
it, and those Jacobians are full matrices. Here each layer carries the exact trace of its own state alone,
and errors go down through the layers within the step and the unroll (Zucchet et al., "Online learning of
long-range dependencies", NeurIPS 2023, arXiv 2305.15947, section 4). What is lost is how a lower layer's
weights had moved the upper layers' states before the unroll. So the top layer's gradient is exact, every
other one approximate, and with a single layer nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kernels.cells.core import Core, State
from kernels.cells.recurrent import CellCore
from kernels.rtrl import BankedTrace, FixedTrace, Trace


class Stack(Core):
    """`num_layers` cores of one kind, each reading the output of the one below. State: one h [B, d N] a
    layer.

    make_layer: from the width of a layer's input.
    """

    layers: nn.ModuleList
    supports_rtrl = True

    def __init__(self, input_size: int, num_layers: int, make_layer: Callable[[int], CellCore]) -> None:
        if num_layers < 1:
            raise ValueError(f"num_layers = {num_layers}: needs at least 1")
        layers = [make_layer(input_size)]
        while len(layers) < num_layers:
            layers.append(make_layer(layers[-1].output_size))
        super().__init__(input_size, layers[-1].output_size)
        self.layers = nn.ModuleList(layers)

    def cells(self) -> list[CellCore]:
        """The layers, lowest first."""
        return [layer for layer in self.layers if isinstance(layer, CellCore)]

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        return tuple(cell.initial_state(batch, device)[0] for cell in self.cells())

    def initial_trace(self, batch: int, device: torch.device | str | None = None) -> list[Trace]:
        return [cell.initial_trace(batch, device) for cell in self.cells()]

    def recurrent_parameters(self) -> list[nn.Parameter]:
        return [parameter for cell in self.cells() for parameter in cell.recurrent_parameters()]

    def step(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        following: list[Tensor] = []
        for cell, h in zip(self.cells(), state, strict=True):
            x, (h_next,) = cell.step(x, (h,), reset)
            following.append(h_next)
        return x, tuple(following)

    def unroll(
        self,
        x: Tensor,
        state: State,
        reset: Tensor,
        trace: Sequence[Trace | BankedTrace | FixedTrace] | None = None,
        backend: str = "auto",
    ) -> tuple[Tensor, State, list[Trace | BankedTrace | FixedTrace] | None]:
        """As `Core.unroll`; `trace` is one a layer, lowest first. Approximate below the top layer."""
        following: list[Tensor] = []
        traces: list[Any] = []
        for index, (cell, h) in enumerate(zip(self.cells(), state, strict=True)):
            x, (h_next,), advanced = cell.unroll(
                x, (h,), reset, None if trace is None else trace[index], backend
            )
            following.append(h_next)
            traces.append(advanced)
        return x, tuple(following), None if trace is None else traces

    def unroll_immediate(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        """As `CellCore.unroll_immediate`, layer by layer."""
        following: list[Tensor] = []
        for cell, h in zip(self.cells(), state, strict=True):
            x, (h_next,) = cell.unroll_immediate(x, (h,), reset)
            following.append(h_next)
        return x, tuple(following)
