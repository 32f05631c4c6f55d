"""What the core reads in place of the encoder's features with `policy.bypass`: a view that is never trained.

Exact RTRL carries the core's credit over any number of unrolls, but to the core alone. An encoder below it
follows a gradient that ends at the unroll's start, and is rebuilt for what pays within it; what the core was
to remember is lost on the way (docs/rtrl.md). So the core reads the observation past the encoder, whose
features go to the heads, beside the core's output. No gradient then has to pass from the core to the encoder,
and every weight of the policy has its exact one.

Vectors pass as they are. Of an image: responses of random filters (which can be as good as trained ones: Saxe
et al. 2011, "On random weights and unsupervised feature learning"), rectified, averaged over a grid, each as
deviations from its running mean, and of these random sums (Johnson and Lindenstrauss 1984).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from actors.policy.encoders import FlatEncoder, is_image
from actors.policy.normalise import BOUND, AddUp, RunningMoments, alone
from actors.rollout import map_observation
from configs.error import require
from envs.spec import EnvSpec

FILTERS, GRID = 16, 4
"""Of an image, and the parts, GRID x GRID, that their responses are averaged over."""
WIDTH = 64
"""Numbers of an image that the core reads."""
_EPSILON = 1e-6
"""Added to the variance of a response, which lies between 0 and about 1."""


class RandomView(nn.Module):
    """[M, C, H, W] uint8 to [M, WIDTH]. The weights are buffers: neither the optimiser nor the gradient's
    norm sees them; they are saved and published with the policy."""

    filters: Tensor
    sums: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        size, self.stride = (8, 4) if min(shape[1:]) >= 20 else (3, 1)
        filters = torch.randn(FILTERS, shape[0], size, size)
        filters -= filters.mean(dim=(1, 2, 3), keepdim=True)  # edges count, brightness does not
        self.register_buffer("filters", filters / filters.flatten(1).norm(dim=1)[:, None, None, None])
        self.moments = RunningMoments(FILTERS * GRID**2)
        self.register_buffer("sums", torch.randn(FILTERS * GRID**2, WIDTH) / (FILTERS * GRID**2) ** 0.5)

    def responses(self, image: Tensor) -> Tensor:
        """[M, FILTERS * GRID * GRID]"""
        pixels = image.to(self.filters.dtype) / 255.0
        seen = F.relu(F.conv2d(pixels, self.filters, stride=self.stride))
        return F.adaptive_avg_pool2d(seen, GRID).flatten(1)

    def forward(self, image: Tensor) -> Tensor:
        deviations = (self.responses(image) - self.moments.mean) / (self.moments.variance + _EPSILON).sqrt()
        return deviations.clamp(-BOUND, BOUND).to(self.sums.dtype) @ self.sums


class Bypass(nn.Module):
    """[M, ...] observations to [M, num_features]. Words of an instruction have no way past their encoder.

    The running means and variances are those of what was learned from (`actors/policy/normalise.py`).
    Raises ConfigError where there is nothing but words.
    """

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__()
        several = isinstance(spec.observation_shape, dict)
        shapes = spec.observation_shape if several else {"": spec.observation_shape}
        dtypes = spec.observation_dtype if several else {"": spec.observation_dtype}
        self.names = [name for name in shapes if dtypes[name] != "int64"]
        require(
            len(self.names) > 0,
            "policy.bypass",
            True,
            f"{spec.id} shows words alone, which have no way past their encoder; switch it off",
        )
        images = [is_image(shapes[name], dtypes[name]) for name in self.names]
        self.views = nn.ModuleList(
            RandomView(shapes[name]) if image else FlatEncoder()
            for name, image in zip(self.names, images, strict=True)
        )
        self.num_features = sum(
            WIDTH if image else math.prod(shapes[name])
            for name, image in zip(self.names, images, strict=True)
        )

    def forward(self, observation: Any) -> Tensor:
        parts = self._parts(observation)
        return torch.cat([view(part) for view, part in zip(self.views, parts, strict=True)], dim=1)

    @torch.no_grad()
    def take(self, observation: Any, add_up: AddUp = alone) -> None:
        """Takes [T, B, ...] observations into the statistics, with those of all that it is added up over."""
        parts = self._parts(map_observation(lambda part: part.flatten(0, 1), observation))
        for view, part in zip(self.views, parts, strict=True):
            if isinstance(view, RandomView):
                view.moments.take(view.responses(part), add_up=add_up)

    def follow(self, add_up: AddUp) -> None:
        """Takes what all others take, and has nothing itself."""
        for moments in self.moments():
            moments.follow(add_up)

    def statistics(self) -> list[Tensor]:
        """All that `take` moves."""
        return [buffer for moments in self.moments() for buffer in moments.buffers()]

    def moments(self) -> list[RunningMoments]:
        return [view.moments for view in self.views if isinstance(view, RandomView)]

    def _parts(self, observation: Any) -> list[Tensor]:
        return [observation[name] if name else observation for name in self.names]
