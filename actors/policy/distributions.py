"""What a policy's head parameterises: which action, with what probability.

    Categorical        action int64 [...];          parameters: A logits
    MultiCategorical   action int64 [..., A];       parameters: the logits of A choices, one after the other
    SquashedGaussian   action float32 [..., A];     parameters: A means, then A numbers for the deviations

`parameters` is what the wire calls `behaviour_logits`. All work on any leading shape, but for `sample` of
Categorical: [E].
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from envs.spec import EnvSpec


class Distribution(Protocol):
    num_parameters: int
    """P, the width of the policy head."""
    action_shape: tuple[int, ...]
    """Of one action: () or (A,)."""
    action_dtype: str
    num_features: int
    """Width of `features`."""

    def sample(self, parameters: Tensor, generator: torch.Generator) -> Tensor: ...

    def mode(self, parameters: Tensor) -> Tensor:
        """The most probable action (of the squashed Gaussian: the squashed mean)."""
        ...

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """Of actions as `sample` gives them, [...]."""
        ...

    def entropy(self, parameters: Tensor) -> Tensor:
        """In nats, [...]."""
        ...

    def features(self, action: Tensor) -> Tensor:
        """The previous action as the core reads it, [..., num_features]."""
        ...

    def to_env(self, action: Tensor) -> Tensor:
        """What the env is given."""
        ...


class Categorical:
    """One of A actions."""

    action_shape: tuple[int, ...] = ()
    action_dtype = "int64"

    def __init__(self, num_actions: int) -> None:
        self.num_parameters = self.num_features = num_actions

    def sample(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        probabilities = torch.softmax(parameters, dim=-1)
        return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.argmax(dim=-1)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        return torch.log_softmax(parameters, dim=-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        log_pi = torch.log_softmax(parameters, dim=-1)
        return -(log_pi.exp() * log_pi).sum(-1)

    def features(self, action: Tensor) -> Tensor:
        return F.one_hot(action, self.num_features)

    def to_env(self, action: Tensor) -> Tensor:
        return action


class MultiCategorical:
    """A independent choices made at once, choice i among `sizes[i]`. Probabilities and entropies are those of
    all of them together."""

    action_dtype = "int64"

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.action_shape = (len(sizes),)
        self.num_parameters = self.num_features = sum(sizes)
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        place = torch.arange(max(sizes)).expand(len(sizes), -1)
        self._beyond = place >= torch.tensor(sizes)[:, None]
        """[A, most choices]: no such choice."""
        self._index = (starts[:, None] + place).masked_fill(self._beyond, 0)
        self._starts = starts

    def _log_pi(self, parameters: Tensor) -> Tensor:
        """[..., A, most choices]; -inf beyond a choice's own."""
        if self._index.device != parameters.device:
            self._beyond, self._index, self._starts = (
                tensor.to(parameters.device) for tensor in (self._beyond, self._index, self._starts)
            )
        logits = parameters[..., self._index].masked_fill(self._beyond, -math.inf)
        return torch.log_softmax(logits, dim=-1)

    def sample(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        probabilities = self._log_pi(parameters).exp()
        flat = torch.multinomial(probabilities.flatten(0, -2), 1, generator=generator)
        return flat.reshape(probabilities.shape[:-1])

    def mode(self, parameters: Tensor) -> Tensor:
        return self._log_pi(parameters).argmax(dim=-1)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        return self._log_pi(parameters).gather(-1, action.unsqueeze(-1)).squeeze(-1).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        log_pi = self._log_pi(parameters)
        return -(log_pi.exp() * log_pi.masked_fill(self._beyond, 0.0)).sum((-2, -1))

    def features(self, action: Tensor) -> Tensor:
        hot = torch.zeros(*action.shape[:-1], self.num_features, dtype=action.dtype, device=action.device)
        return hot.scatter_(-1, action + self._starts.to(action.device), 1)

    def to_env(self, action: Tensor) -> Tensor:
        return action


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(16)
_LOG_2PI = math.log(2.0 * math.pi)


def _log_slope(u: Tensor) -> Tensor:
    """log d tanh(u) / du = log(1 - tanh(u)^2), without the cancellation."""
    return 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))


class SquashedGaussian:
    """a = tanh(u) in (-1, 1)^A with u ~ N(mean, deviation^2), independent dimensions (SAC, arXiv 1801.01290,
    appendix C). The action on the wire is u: log-probabilities then need no inverse of tanh, which is
    infinite where it saturates. deviation = softplus(number + ln(e - 1)) + 0.001, 1 for a number of 0.
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

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        mean, deviation = self._split(parameters)
        gaussian = -0.5 * (((action - mean) / deviation).square() + _LOG_2PI) - deviation.log()
        return (gaussian - _log_slope(action)).sum(-1)

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


def make_distribution(spec: EnvSpec) -> Distribution:
    if spec.action_sizes:
        return MultiCategorical(spec.action_sizes)
    return SquashedGaussian(spec.num_actions) if spec.continuous_actions else Categorical(spec.num_actions)
