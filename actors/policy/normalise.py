"""Running normalisation: observations by the mean and deviation of what was learned from so far.

The statistics are buffers of the policy: they travel with its weights (publications, checkpoints,
evaluations, `policy.load`), and neither the optimiser nor the gradient's norm sees them. Whoever acts or
evaluates only reads them. The learner takes a batch in after it has learned from it. So a batch that was
acted with the newest weights is learned from with the very statistics that it was acted with, and its
importance ratios are 1; one that lags behind has older ones, as it has older weights. What is older than the
batch (recurrent states, traces) was built with older statistics, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from actors.rollout import observation_parts
from configs.error import ConfigError
from envs.spec import EnvSpec

BOUND = 10.0
"""Deviations from the mean at which a normalised number is clipped."""
_EPSILON = 1e-8
"""Added to the variance, as usual."""


AddUp: TypeAlias = Callable[[Sequence[Tensor]], None]
"""Makes each tensor, in place, the sum of its like over several learners."""


def alone(tensors: Sequence[Tensor]) -> None:
    """The sum over one."""


class RunningMoments(nn.Module):
    """Mean and variance of each of n numbers over all that was seen; 0 and 1 before anything was.

    By the parallel formula of Chan, Golub and LeVeque (1979), in float64: it neither cancels where the mean
    is large against the deviation nor stops to count at 2^24.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(numbers, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(numbers, dtype=torch.float64))

    @torch.no_grad()
    def take(self, x: Tensor, counts: Tensor | None = None, add_up: AddUp = alone) -> None:
        """x [M, n]; counts [M] bool: the rows that count, None: all. `add_up`: over all who take rows at the
        same time, M of each its own."""
        x = x.to(torch.float64)
        weight = torch.ones_like(x[:, :1]) if counts is None else counts.to(torch.float64)[:, None]
        x = torch.where(weight > 0, x, 0.0)
        new, sums = weight.sum(), x.sum(0)
        add_up([new, sums])
        mean = sums / new.clamp(min=1.0)
        squares = (weight * (x - mean).square()).sum(0)
        add_up([squares])
        total = self.count + new
        shift = mean - self.mean
        squares += self.variance * self.count + shift.square() * self.count * new / total.clamp(min=1.0)
        self.mean += shift * new / total.clamp(min=1.0)
        self.variance.copy_(torch.where(total > 0, squares / total.clamp(min=1.0), self.variance))
        self.count.copy_(total)

    def follow(self, add_up: AddUp) -> None:
        """Takes what all others take, and has no rows itself."""
        self.take(self.mean.new_zeros(0, len(self.mean)), add_up=add_up)


class ObservationNormaliser(nn.Module):
    """Every measured number of float32 observations as deviations from its running mean, clipped to
    [-10, 10]. Pictures, words, one-hots and bits stay as they are.

    Raises ConfigError where nothing is measured.
    """

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__()
        several = isinstance(spec.observation_shape, dict)
        shapes = spec.observation_shape if several else {"": spec.observation_shape}
        dtypes = spec.observation_dtype if several else {"": spec.observation_dtype}
        self._places: dict[str, int] = {}
        """Part to its place in `moments`."""
        moments: list[RunningMoments] = []
        for name, shape in shapes.items():
            measured = torch.ones(math.prod(shape), dtype=torch.bool)
            for part, first, end in spec.coded:
                measured[first:end] &= part != name
            if dtypes[name] == "float32" and measured.any():
                self._places[name] = len(moments)
                self.register_buffer(f"measured_{len(moments)}", measured, persistent=False)
                moments.append(RunningMoments(len(measured)))
        if not moments:
            raise ConfigError(
                f"policy.normalise_observations = True: cannot take effect, {spec.id} shows no measured "
                "numbers (pictures, words, one-hots and bits are left alone); switch it off"
            )
        self.moments = nn.ModuleList(moments)

    def forward(self, observation: Any) -> Any:
        """observation [M, ...], a tensor or several by name, as the policy reads it."""
        if isinstance(observation, dict):
            return {name: self._normalised(name, part) for name, part in observation.items()}
        return self._normalised("", observation)

    @torch.no_grad()
    def take(self, observation: Any, add_up: AddUp = alone) -> Tensor:
        """Takes [T, B, ...] observations into the statistics, with those of all that it is added up over.
        Returns the share of its measured numbers that these statistics, as they were before, clip."""
        clipped, numbers = torch.zeros((), dtype=torch.float64, device=next(self.buffers()).device), 0.0
        parts = {label.partition(".")[2]: part for label, part in observation_parts(observation)}
        for name in self._places:
            flat = parts[name].flatten(0, 1)
            beyond = self._normalised(name, flat).abs() >= BOUND
            measured = self._measured(name)
            clipped = clipped + (beyond.flatten(1) & measured).sum()
            numbers += len(flat) * measured.sum()
            self._of(name).take(flat.flatten(1), add_up=add_up)
        return clipped / numbers

    def follow(self, add_up: AddUp) -> None:
        """Takes what all others take, and has nothing itself."""
        for name in self._places:
            self._of(name).follow(add_up)

    def statistics(self) -> list[Tensor]:
        """All that `take` moves."""
        return list(self.moments.buffers())

    def _of(self, name: str) -> RunningMoments:
        moments = self.moments[self._places[name]]
        assert isinstance(moments, RunningMoments)
        return moments

    def _measured(self, name: str) -> Tensor:
        return self.get_buffer(f"measured_{self._places[name]}")

    def _normalised(self, name: str, part: Tensor) -> Tensor:
        if name not in self._places:
            return part
        moments, flat = self._of(name), part.flatten(1)
        scaled = (flat - moments.mean) / (moments.variance + _EPSILON).sqrt()
        bounded = scaled.clamp(-BOUND, BOUND).to(flat.dtype)
        return torch.where(self._measured(name), bounded, flat).unflatten(1, part.shape[1:])
