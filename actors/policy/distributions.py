"""What a policy's head parameterises: which action, with what probability.

    Categorical        action int64 [...];          parameters: A logits
    MultiCategorical   action int64 [..., A];       parameters: the logits of A choices, one after the other
    SquashedGaussian   action float32 [..., A];     parameters: A means, then A numbers for the deviations
    ClippedGaussian    the same

`parameters` is what the wire calls `behaviour_logits`. All work on any leading shape, but for `sample` of
Categorical: [E].
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from actors.policy.gaussian import ClippedGaussian, Gaussian, MeanHead, SquashedGaussian
from configs.control import GaussianConfig
from configs.error import ConfigError
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
        """The most probable action (of a Gaussian: its mean, squashed or clipped)."""
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


def make_distribution(spec: EnvSpec, gaussian: GaussianConfig | None = None) -> Distribution:
    """Raises ConfigError for settings of a Gaussian where actions are discrete."""
    gaussian = gaussian or GaussianConfig()
    if spec.continuous_actions:
        kind = ClippedGaussian if gaussian.bounds == "clip" else SquashedGaussian
        return kind(spec.num_actions)
    for field in fields(gaussian):
        if (value := getattr(gaussian, field.name)) != field.default:
            raise ConfigError(
                f"policy.gaussian.{field.name} = {value!r}: cannot take effect, the actions of {spec.id} are "
                f"discrete; leave it at {field.default!r}"
            )
    return MultiCategorical(spec.action_sizes) if spec.action_sizes else Categorical(spec.num_actions)


def make_head(inputs: int, distribution: Distribution, gaussian: GaussianConfig) -> nn.Linear:
    """From the core's output to the distribution's parameters."""
    if isinstance(distribution, Gaussian) and gaussian.deviation == "free":
        return MeanHead(inputs, distribution.num_features)
    return nn.Linear(inputs, distribution.num_parameters)
