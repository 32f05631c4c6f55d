"""What a policy may expect of its recurrent core."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]
"""Recurrent state before the next observation is consumed: tensors [B, ...], empty without memory."""


class Core(nn.Module):
    """Maps inputs x [..., B, input_size] to outputs h [..., B, output_size], carrying a state.

    A core that is trained by RTRL also carries a trace while learning, never while acting.
    """

    supports_rtrl = False
    """Whether a trace makes its gradient that of RTRL (of one layer: exact); `unroll_immediate` is there."""

    def __init__(self, input_size: int, output_size: int) -> None:
        for name, size in (("input_size", input_size), ("hidden_size", output_size)):
            if size < 1:
                raise ValueError(f"{name} = {size}: needs at least 1")
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        """The state of `batch` streams at the start of an episode: zeros, in the weights' dtype."""
        raise NotImplementedError

    def initial_trace(self, batch: int, device: torch.device | str | None = None) -> Any:
        """The trace of `batch` streams at the start of an episode; None for a core that has TBPTT alone."""
        return None

    def step(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        """One step while acting: x [B, D], reset [B] bool -> h [B, N] and the next state.

        Equals `unroll` of that one step.
        """
        raise NotImplementedError

    def unroll(
        self, x: Tensor, state: State, reset: Tensor, trace: Any = None, backend: str = "auto"
    ) -> tuple[Tensor, State, Any]:
        """T steps while learning: x [T, B, D], reset [T, B] bool -> h [T, B, N], next state, next trace.

        reset[t] zeroes state and trace before x[t] is consumed. A trace of None trains by TBPTT, and
        None comes back. backend: how the core computes; "auto" is a choice that any core has. ValueError
        for a trace or a backend that this core has no use for.
        """
        raise NotImplementedError

    def unroll_immediate(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        """The unroll's values with the credit of one step; a core with `supports_rtrl` has it."""
        raise NotImplementedError

    def cells(self) -> list[Any]:
        """The layers with a trace of their own, lowest first: `CellCore`s."""
        return []

    def recurrent_parameters(self) -> list[nn.Parameter]:
        """The parameters inside the recurrence: those that RTRL is about, and that a frozen core keeps."""
        return []

    def _refuse_trace(self, trace: Any) -> None:
        if trace is not None:
            raise ValueError(f"trace was given, but {type(self).__name__} is trained by TBPTT: pass None")


def zero_at(reset: Tensor, state: Tensor) -> Tensor:
    """`state` [..., N], and 0 where reset [...] is set: by selection, since 0 * inf would be NaN."""
    return state.masked_fill(reset[..., None], 0)
