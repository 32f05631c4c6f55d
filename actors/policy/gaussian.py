"""Gaussians over continuous actions, squashed or clipped to [-1, 1]: an env stretches that to its bounds."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(16)
_LOG_2PI = math.log(2.0 * math.pi)


def _log_slope(u: Tensor) -> Tensor:
    """log d tanh(u) / du = log(1 - tanh(u)^2), without the cancellation."""
    return 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))


class Gaussian:
    """u ~ N(mean, deviation^2), independent dimensions; the action on the wire is u.

    deviation = softplus(number + ln(e - 1)) + 0.001, 1 for a number of 0. Where the numbers come from, the
    network or free parameters, is the policy's head's matter: on the wire they are the same.
    """

    action_dtype = "float32"

    def __init__(self, num_dimensions: int) -> None:
        self.num_features = num_dimensions
        self.num_parameters = 2 * num_dimensions
        self.action_shape = (num_dimensions,)

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, number = parameters.chunk(2, dim=-1)
        return mean, F.softplus(number + math.log(math.e - 1.0)) + 1e-3

    def sample(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        mean, deviation = self._split(parameters)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + deviation * noise

    def mode(self, parameters: Tensor) -> Tensor:
        return self._split(parameters)[0].clone()

    def _log_density(self, parameters: Tensor, u: Tensor) -> Tensor:
        """Of u, [..., A]."""
        mean, deviation = self._split(parameters)
        return -0.5 * (((u - mean) / deviation).square() + _LOG_2PI) - deviation.log()


class SquashedGaussian(Gaussian):
    """a = tanh(u) in (-1, 1)^A (SAC, arXiv 1801.01290, appendix C). With u on the wire log-probabilities need
    no inverse of tanh, which is infinite where it saturates."""

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        return (self._log_density(parameters, action) - _log_slope(action)).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """The Gaussian's, plus E[log d tanh(u) / du] by Gauss-Hermite quadrature: deterministic, and exact to
        the quadrature, where SAC takes one sample."""
        mean, deviation = self._split(parameters)
        nodes = torch.as_tensor(_NODES, dtype=mean.dtype, device=mean.device)
        weights = torch.as_tensor(_WEIGHTS / _WEIGHTS.sum(), dtype=mean.dtype, device=mean.device)
        slope = _log_slope(mean.unsqueeze(-1) + deviation.unsqueeze(-1) * nodes) @ weights
        return (0.5 * (1.0 + _LOG_2PI) + deviation.log() + slope).sum(-1)

    def features(self, action: Tensor) -> Tensor:
        return action.tanh()

    def to_env(self, action: Tensor) -> Tensor:
        return action.tanh()


class ClippedGaussian(Gaussian):
    """a = u clipped to [-1, 1]^A, for the env alone: the clip counts as a part of the environment.

    So the policy is one over u, and density, entropy and ratios are the Gaussian's. That is exact, not an
    approximation: rewards and next states depend on u through a, and the policy-gradient theorem asks no more
    of an environment. The density of a itself has no use: at a bound it is a lump of probability, whose
    gradient is another estimate of the same (arXiv 1802.07564), with less variance.
    """

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        return self._log_density(parameters, action).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """Of u: it grows without end with the deviation, where that of a squashed action does not."""
        return (0.5 * (1.0 + _LOG_2PI) + self._split(parameters)[1].log()).sum(-1)

    def features(self, action: Tensor) -> Tensor:
        return action.clamp(-1.0, 1.0)

    def to_env(self, action: Tensor) -> Tensor:
        return action.clamp(-1.0, 1.0)


class MeanHead(nn.Linear):
    """Means by the network, and one free number for the deviation of each dimension: h [..., inputs] to the
    parameters [..., 2 A] of a Gaussian."""

    def __init__(self, inputs: int, num_dimensions: int) -> None:
        super().__init__(inputs, num_dimensions)
        self.deviation = nn.Parameter(torch.zeros(num_dimensions))

    def forward(self, input: Tensor) -> Tensor:
        mean = super().forward(input)
        return torch.cat([mean, self.deviation.expand_as(mean)], dim=-1)
