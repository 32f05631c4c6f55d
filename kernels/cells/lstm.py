"""torch's LSTM with resets inside the unroll, trained by TBPTT."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kernels.cells.core import Core, State, keep


class LSTM(Core):
    """State (h, c), each [B, N]; weights, names and start values of a one-layer `nn.LSTM`, with
    `forget_bias` added to the forget gate's bias."""

    def __init__(self, input_size: int, hidden_size: int, forget_bias: float = 0.0) -> None:
        super().__init__(input_size, hidden_size)
        self.lstm = nn.LSTM(input_size, hidden_size)
        with torch.no_grad():  # the gates' order is input, forget, cell, output
            self.lstm.get_parameter("bias_ih_l0")[hidden_size : 2 * hidden_size] += forget_bias

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        weight = self.lstm.get_parameter("weight_hh_l0")
        zeros = weight.new_zeros(2, batch, self.output_size, device=device)
        return zeros[0], zeros[1]

    def step(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        h, state, _ = self.unroll(x[None], state, reset[None])
        return h[0], state

    def unroll(
        self, x: Tensor, state: State, reset: Tensor, trace: Any = None, backend: str = "auto"
    ) -> tuple[Tensor, State, Any]:
        """One call of torch's LSTM for each stretch of steps in which no column is reset.

        On a GPU, finding the stretches waits for the device once.
        """
        self._refuse_trace(trace)
        if x.ndim != 3 or reset.shape != x.shape[:2]:
            shapes = f"x {list(x.shape)}, reset {list(reset.shape)}"
            raise ValueError(f"{shapes}: expected [T, B, D] and [T, B]")
        h, c = state
        starts = [0, *(t for t, any_reset in enumerate(reset.any(1).tolist()) if any_reset and t > 0)]
        outputs = []
        for start, stop in zip(starts, [*starts[1:], x.shape[0]], strict=True):
            m = keep(reset[start], x)
            output, (h, c) = self.lstm(x[start:stop], ((m * h)[None], (m * c)[None]))
            h, c = h[0], c[0]
            outputs.append(output)
        return torch.cat(outputs), (h, c), None
