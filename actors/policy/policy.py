"""The policy: encoder, recurrent core, two heads. One set of weights for acting and for learning.

    observation --normalise (option)--encoder--> features --+
    previous reward, clipped (option) ----------------------+--> x [D] --core--> h [N] --> logits, baseline
    previous action (option) -------------------------------+

With `bypass` the core reads a view of the observation that is never trained (actors/policy/bypass.py), and
the features go to the heads, beside h.

`step` acts, one observation at a time; `unroll` learns, one rollout at a time. They agree to
rounding, and a test holds them to it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from actors.policy.bypass import Bypass
from actors.policy.distributions import make_distribution, make_head
from actors.policy.encoders import make_encoder
from actors.policy.normalise import ObservationNormaliser
from actors.rollout import map_observation
from configs.schema import Credit, PolicyConfig
from envs.spec import EnvSpec
from kernels.cells import make_core

State = tuple[Tensor, ...]
"""Recurrent state of a batch: each tensor [B, ...]. Empty for a policy without a core."""


class PolicyStep(NamedTuple):
    """What acting needs."""

    logits: Tensor
    """[E, P] parameters of the distribution of actions (actors/policy/distributions.py)."""
    baseline: Tensor
    """[E] value estimate of the observation."""
    state: State


class PolicyUnroll(NamedTuple):
    """What learning needs."""

    logits: Tensor
    """[T, B, P]"""
    baseline: Tensor
    """[T, B] V(x_0) .. V(x_{T-1}), with gradient."""
    next_baseline: Tensor
    """[T, B] V(x_1) .. V(x_T), without gradient; x_T takes one extra step of the core."""
    trace: Any
    """Sensitivities after x_{T-1}; None without RTRL."""


class PolicyChunk(NamedTuple):
    """An unroll without its last observation: logits, baseline and trace as there, of `T` steps."""

    logits: Tensor
    baseline: Tensor
    state: State
    """After x_{T-1}."""
    trace: Any


class Policy(nn.Module):
    """Raises ConfigError where the config does not fit the environment."""

    def __init__(self, spec: EnvSpec, config: PolicyConfig) -> None:
        super().__init__()
        self.distribution = make_distribution(spec, config.gaussian)
        self.uses_previous_action = config.previous_action
        self.uses_previous_reward = config.previous_reward
        self.encoder, features = make_encoder(spec, config)
        if config.freeze_encoder:
            self.encoder.requires_grad_(False)
        if config.normalise_observations:
            # Within the encoder, whose weights mean nothing without it: `load_encoder` brings both.
            parts = OrderedDict[str, nn.Module](normalise=ObservationNormaliser(spec), encode=self.encoder)
            self.encoder = nn.Sequential(parts)
        self.bypass = Bypass(spec) if config.bypass else None
        inputs = features if self.bypass is None else self.bypass.num_features
        inputs += config.previous_reward
        inputs += self.distribution.num_features if config.previous_action else 0
        self.core = make_core(
            config.core, inputs, config.hidden_size, config.num_layers, **config.core_options
        )
        if config.freeze_core:
            for parameter in self.core.recurrent_parameters():
                parameter.requires_grad_(False)
        outputs = self.core.output_size + (0 if self.bypass is None else features)
        self.policy_head = make_head(outputs, self.distribution, config.gaussian)
        self.baseline_head = nn.Linear(outputs, 1)

    @property
    def normaliser(self) -> ObservationNormaliser | None:
        """None where observations are taken as they are."""
        module = getattr(self.encoder, "normalise", None)
        return module if isinstance(module, ObservationNormaliser) else None

    def observers(self) -> list[ObservationNormaliser | Bypass]:
        """What keeps running statistics of the observations, in the order in which all ranks sum them."""
        found = (self.normaliser, self.bypass)
        return [observer for observer in found if observer is not None]

    def initial_state(self, batch: int) -> State:
        return self.core.initial_state(batch, device=self.policy_head.weight.device)

    def initial_trace(self, batch: int) -> Any:
        """Zero sensitivities of `batch` streams; None if the core has no exact RTRL."""
        return self.core.initial_trace(batch, device=self.policy_head.weight.device)

    def step(
        self, observation: Any, reward: Tensor, reset: Tensor, state: State, previous_action: Tensor
    ) -> PolicyStep:
        """observation [E, ...] (a tensor, or several by name), reward [E], reset [E] bool, previous_action
        [E, ...]."""
        x = self.core_input(observation, reward, reset, previous_action)
        h, state = self.core.step(x, state, reset)
        return PolicyStep(*self._heads(h, observation), state)

    def unroll(
        self,
        observation: Any,
        reward: Tensor,
        reset: Tensor,
        state: State,
        previous_action: Tensor,
        trace: Any = None,
        credit: Credit = "tbptt",
    ) -> PolicyUnroll:
        """observation [T+1, B, ...], reward and reset [T+1, B], previous_action [T+1, B], state before x_0.

        With a trace (that of `initial_trace`, or of the stream's previous unroll) the core's weight
        gradients are exact RTRL for weights frozen within the unroll (one layer; a stack's are
        approximate); the gradient that flows on into the encoder is always cut at the unroll's start.
        credit "immediate" cuts it at every step; else the trace alone decides.
        """
        T = reward.shape[0] - 1
        before, at_T = (map_observation(lambda x, part=part: x[part], observation) for part in (slice(T), T))
        chunk = self.chunk(before, reward[:T], reset[:T], state, previous_action[:T], trace, credit)
        with torch.no_grad():
            last = self.step(at_T, reward[T], reset[T], chunk.state, previous_action[T]).baseline
            next_baseline = torch.cat([chunk.baseline[1:].detach(), last.unsqueeze(0)])
        return PolicyUnroll(chunk.logits, chunk.baseline, next_baseline, chunk.trace)

    def chunk(
        self,
        observation: Any,
        reward: Tensor,
        reset: Tensor,
        state: State,
        previous_action: Tensor,
        trace: Any = None,
        credit: Credit = "tbptt",
    ) -> PolicyChunk:
        """`unroll` of T steps, all arguments [T, B, ...], without what comes after them."""
        x = self.core_input(observation, reward, reset, previous_action)
        if credit == "immediate":
            assert self.core.supports_rtrl, "the config refuses other cores"
            h, state = self.core.unroll_immediate(x, state, reset)
        else:
            h, state, trace = self.core.unroll(x, state, reset, trace)
        return PolicyChunk(*self._heads(h, observation), state, trace)

    def core_input(self, observation: Any, reward: Tensor, reset: Tensor, action: Tensor) -> Tensor:
        """What the core reads, [..., D], from arguments as in `step`, with any leading shape."""
        read = self.encoder if self.bypass is None else self._past_encoder
        parts = [_flat(read, observation, reward.shape)]
        if self.uses_previous_reward:
            parts.append(reward.clamp(-1.0, 1.0).to(parts[0].dtype).unsqueeze(-1))
        if self.uses_previous_action:
            previous = self.distribution.features(action).to(parts[0].dtype)
            parts.append(previous.masked_fill(reset.unsqueeze(-1), 0.0))
        return torch.cat(parts, dim=-1)

    def _heads(self, h: Tensor, observation: Any) -> tuple[Tensor, Tensor]:
        """logits and baseline, from what the core puts out and, past the core, the features."""
        if self.bypass is not None:
            h = torch.cat([h, _flat(self.encoder, observation, h.shape[:-1])], dim=-1)
        return self.policy_head(h), self.baseline_head(h).squeeze(-1)

    def _past_encoder(self, observation: Any) -> Tensor:
        """[M, ...] to [M, F]"""
        assert self.bypass is not None
        return self.bypass(observation if self.normaliser is None else self.normaliser(observation))


def _flat(read: Callable[[Any], Tensor], observation: Any, lead: torch.Size) -> Tensor:
    """[*lead, F]: what `read` makes of [M, ...] observations."""
    flat = map_observation(lambda part: part.flatten(0, len(lead) - 1), observation)
    return read(flat).unflatten(0, lead)
