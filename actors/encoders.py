"""Encoders: observation [M, ...] to features [M, F]. M is any number of steps and columns, flattened.

`shallow` and `deep` are the two networks of IMPALA (arXiv 1802.01561, figure 3); `nature` is that
of DQN (Mnih et al. 2015). Images are uint8, channels first, of any size that the strides allow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.schema import ConfigError, PolicyConfig
from envs.spec import EnvSpec


class _PixelConv(nn.Conv2d):
    """First convolution on raw pixels: 1/255 is folded into the weights, which is 28,224 multiplications
    less an Atari frame; the cast also brings the image into channels_last, the layout that CPU and
    GPU convolutions are fastest in."""

    def forward(self, input: Tensor) -> Tensor:
        pixels = input.to(dtype=self.weight.dtype, memory_format=torch.channels_last)
        return self._conv_forward(pixels, self.weight * (1.0 / 255.0), self.bias)


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_1(F.relu(self.conv_0(F.relu(x))))


def _shallow(channels: int) -> list[nn.Module]:
    return [_PixelConv(channels, 16, 8, stride=4), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2), nn.ReLU()]


def _nature(channels: int) -> list[nn.Module]:
    return [
        *(_PixelConv(channels, 32, 8, stride=4), nn.ReLU()),
        *(nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, stride=1), nn.ReLU()),
    ]


def _deep(channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for stage, width in enumerate((16, 32, 32)):
        conv = _PixelConv if stage == 0 else nn.Conv2d
        layers += [conv(channels, width, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
        layers += [_ResidualBlock(width), _ResidualBlock(width)]
        channels = width
    return [*layers, nn.ReLU()]


_STACKS = {"shallow": _shallow, "nature": _nature, "deep": _deep}


class ImageEncoder(nn.Module):
    """Convolutions, then one fully connected layer with a ReLU."""

    def __init__(self, kind: str, shape: tuple[int, int, int], features: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*_STACKS[kind](shape[0]))
        for parameter in self.convolutions.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        try:
            flat = math.prod(self.convolutions(torch.zeros(1, *shape, dtype=torch.uint8)).shape)
        except RuntimeError as error:
            raise ConfigError(
                f"policy.encoder = {kind!r}: an observation of {shape} is too small for its strides; "
                "choose policy.encoder 'deep' or 'mlp'"
            ) from error
        self.linear = nn.Linear(flat, features)

    def forward(self, observation: Tensor) -> Tensor:
        return F.relu(self.linear(self.convolutions(observation).flatten(1)))


class MLPEncoder(nn.Module):
    """One hidden layer and one output layer, both with a ReLU, over the flattened observation."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, features), nn.ReLU(), nn.Linear(features, features), nn.ReLU()
        )

    def forward(self, observation: Tensor) -> Tensor:
        return self.layers(observation.flatten(1))


class FlatEncoder(nn.Module):
    """No encoder: the flattened observation itself."""

    def forward(self, observation: Tensor) -> Tensor:
        return observation.flatten(1)


def make_encoder(spec: EnvSpec, config: PolicyConfig) -> tuple[nn.Module, int]:
    """The encoder and the width of its features.

    Raises ConfigError where the encoder does not fit the observation.
    """
    shape = spec.observation_shape
    if config.encoder in _STACKS:
        if len(shape) != 3 or spec.observation_dtype != "uint8":
            raise ConfigError(
                f"policy.encoder = {config.encoder!r} needs uint8 images [C, H, W], but {spec.id} gives "
                f"{spec.observation_dtype}{list(shape)}; use policy.encoder 'mlp'"
            )
        return ImageEncoder(config.encoder, (shape[0], shape[1], shape[2]), config.features), config.features
    if spec.observation_dtype == "uint8":
        raise ConfigError(
            f"policy.encoder = {config.encoder!r} needs a float32 vector, but {spec.id} gives pixels "
            f"{list(shape)}; use policy.encoder 'shallow', 'nature' or 'deep'"
        )
    if config.encoder == "none":
        return FlatEncoder(), math.prod(shape)
    return MLPEncoder(math.prod(shape), config.features), config.features
