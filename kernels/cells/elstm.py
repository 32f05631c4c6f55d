"""The eLSTM of the paper: the recurrent op, and an output gate outside the recurrence."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from kernels.cells.core import Core, State, zero_at
from kernels.elstm import Backend, BankedTrace, ELSTMTrace, elstm

_SixParameters = tuple[nn.Parameter, nn.Parameter, nn.Parameter, nn.Parameter, nn.Parameter, nn.Parameter]


class ELSTM(Core):
    """State (c,), output h = sigm(W_o [x; c] + b_o) * c; equations 5 to 7 of arXiv 2305.19044.

    The six recurrent parameters start as Normal(0, 0.1), the forget bias around `forget_bias`.
    """

    def __init__(self, input_size: int, hidden_size: int, forget_bias: float = 0.0) -> None:
        super().__init__(input_size, hidden_size)
        self.W_z = nn.Parameter(torch.empty(hidden_size, input_size))
        self.W_f = nn.Parameter(torch.empty(hidden_size, input_size))
        self.w_z = nn.Parameter(torch.empty(hidden_size))
        self.w_f = nn.Parameter(torch.empty(hidden_size))
        self.b_z = nn.Parameter(torch.empty(hidden_size))
        self.b_f = nn.Parameter(torch.empty(hidden_size))
        self.output_gate = nn.Linear(input_size + hidden_size, hidden_size)
        for parameter in (self.W_z, self.W_f, self.w_z, self.w_f, self.b_z, self.b_f):
            nn.init.normal_(parameter, std=0.1)
        with torch.no_grad():
            self.b_f.add_(forget_bias)

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        return (self.b_z.new_zeros(batch, self.output_size, device=device),)

    def initial_trace(self, batch: int, device: torch.device | str | None = None) -> ELSTMTrace:
        device = self.b_z.device if device is None else device
        return ELSTMTrace.zeros(batch, self.output_size, self.input_size, device, self.b_z.dtype)

    def recurrent_parameters(self) -> list[nn.Parameter]:
        return list(self._weights())

    def _weights(self) -> _SixParameters:
        return self.W_z, self.W_f, self.w_z, self.w_f, self.b_z, self.b_f

    def step(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        c = zero_at(reset, state[0])
        z = torch.tanh(torch.addcmul(nn.functional.linear(x, self.W_z, self.b_z), self.w_z, c))
        f = torch.sigmoid(torch.addcmul(nn.functional.linear(x, self.W_f, self.b_f), self.w_f, c))
        c = torch.lerp(z, c, f)
        return self._output(x, c), (c,)

    def unroll(
        self,
        x: Tensor,
        state: State,
        reset: Tensor,
        trace: ELSTMTrace | BankedTrace | None = None,
        backend: str = "auto",
    ) -> tuple[Tensor, State, ELSTMTrace | BankedTrace | None]:
        c, trace = elstm(x, *self._weights(), state[0], reset, trace, cast("Backend", backend))
        return self._output(x, c), (c[-1],), trace

    def unroll_immediate(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        """The unroll's values with the credit of one step: dc_t/dc_{t-1} counts as 0 in the gradient.

        A control, not a way to train: every step becomes a chunk of its own, begun from a state that is
        a constant. Shapes as in `unroll`.
        """
        T, B = reset.shape
        with torch.no_grad():
            c, _ = elstm(x, *self._weights(), state[0], reset)
        before = torch.cat([state[0][None], c[:-1]]).flatten(0, 1).detach()
        flat_x, flat_reset = x.flatten(0, 1)[None], reset.flatten()[None]
        c, _ = elstm(flat_x, *self._weights(), before, flat_reset)
        c = c[0].unflatten(0, (T, B))
        return self._output(x, c), (c[-1],)

    def _output(self, x: Tensor, c: Tensor) -> Tensor:
        return torch.sigmoid(self.output_gate(torch.cat([x, c], dim=-1))) * c
