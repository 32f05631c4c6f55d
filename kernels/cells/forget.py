"""Where the bias of a gate that keeps begins."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ForgetBias = float | Literal["spread"]
SPREAD = 8.0
"""The largest bias of a spread start."""


def forget_biases(forget_bias: ForgetBias, num_units: int) -> Tensor:
    """[N] biases of N units' forget gates: all `forget_bias`; or, "spread", evenly from 0 to 8.

    At a bias b and nothing else a unit keeps sigm(b) of its state a step, and so 1 / e of it over about
    1 + e^b steps: the time constants of a spread start are log-uniform between 2 and 3,000 steps. The chrono
    start (Tallec and Ollivier 2018, arXiv 1804.11188) draws them uniformly up to the longest delay of the
    task instead, which has to be known and leaves few units for shorter ones.
    """
    if forget_bias == "spread":
        return torch.linspace(0.0, SPREAD, num_units)
    return torch.full((num_units,), float(forget_bias))
