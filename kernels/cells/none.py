"""No core: a policy without memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.cells.core import Core, State


class Identity(Core):
    """h = x, with an empty state."""

    def __init__(self, input_size: int) -> None:
        super().__init__(input_size, input_size)

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        return ()

    def step(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        return x, state

    def unroll(
        self, x: Tensor, state: State, reset: Tensor, trace: Any = None, backend: str = "auto"
    ) -> tuple[Tensor, State, Any]:
        self._refuse_trace(trace)
        if backend != "auto":
            raise ValueError(
                f"backend = {backend!r}: without a core there is nothing to compute, pass 'auto'"
            )
        return x, state, None
