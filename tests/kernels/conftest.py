"""Random eLSTM problems, and the plain-autograd cell that everything is measured against.

Without a GPU the Triton kernels run in Triton's interpreter, which must be chosen before they are imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from kernels.elstm import ELSTMTrace

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@dataclass
class Problem:
    """One chunk: inputs, a trace from some earlier chunk, and direct gradients e [T, B, N] of its states."""

    x: Tensor
    weights: list[Tensor]
    c_0: Tensor
    reset: Tensor
    trace: ELSTMTrace
    e: Tensor

    @property
    def differentiable(self) -> list[Tensor]:
        return [self.x, *self.weights, self.c_0]

    def to(self, dtype: torch.dtype, device: str = "cpu") -> Problem:
        """A copy whose gradients are its own."""

        def copy(tensor: Tensor) -> Tensor:
            return tensor.detach().to(device, dtype, copy=True).requires_grad_(tensor.requires_grad)

        return Problem(
            x=copy(self.x),
            weights=[copy(weight) for weight in self.weights],
            c_0=copy(self.c_0),
            reset=self.reset.to(device),
            trace=self.trace.map(copy),
            e=copy(self.e),
        )

    def loss(self, c: Tensor) -> Tensor:
        """Uses every state, and the final one again and not linearly, as a bootstrap value would."""
        return (self.e * c).sum() + (c[-1] ** 3).sum()


MakeProblem = Callable[..., Problem]


@pytest.fixture
def make_problem() -> MakeProblem:
    def make(T: int, B: int, N: int, D: int, seed: int = 0, reset_probability: float = 0.15) -> Problem:
        g = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        reset = torch.rand(T, B, generator=g) < reset_probability
        reset[0, 0] = reset[-1, B - 1] = True  # at the first step, at the last
        reset[T // 2 : T // 2 + 2, B // 2] = True  # at consecutive steps
        scale = D**-0.5
        weights = [normal(N, D) * scale, normal(N, D) * scale, *(normal(N) for _ in range(4))]
        problem = Problem(
            x=normal(T, B, D),
            weights=weights,
            c_0=normal(B, N),
            reset=reset,
            trace=ELSTMTrace(normal(B, N, D), normal(B, N, D), *(normal(B, N) for _ in range(4))),
            e=normal(T, B, N),
        )
        for tensor in problem.differentiable:
            tensor.requires_grad_()
        return problem

    return make


@pytest.fixture
def autograd_states() -> Callable[..., Tensor]:
    """The cell of the paper, step by step, left to autograd: nothing of ours is in it."""

    def states(x: Tensor, weights: list[Tensor], c_0: Tensor, reset: Tensor) -> Tensor:
        W_z, W_f, w_z, w_f, b_z, b_f = weights
        c, outputs = c_0, []
        for t in range(x.shape[0]):
            c = torch.where(reset[t][:, None], torch.zeros_like(c), c)
            z = torch.tanh(x[t] @ W_z.T + w_z * c + b_z)
            f = torch.sigmoid(x[t] @ W_f.T + w_f * c + b_f)
            c = f * c + (1 - f) * z
            outputs.append(c)
        return torch.stack(outputs)

    return states
