"""Encoders: observation [M, ...] to features [M, F]. M is any number of steps and columns, flattened.

`shallow` and `deep` are the two networks of IMPALA (arXiv 1802.01561, figure 3); `nature` is that
of DQN (Mnih et al. 2015). Images are uint8, channels first, of any size that the strides allow.

Of an observation in several parts each image goes through an encoder of its own and an instruction through
a small LSTM, whatever the encoder; vectors join the features as they are, or, where there is no image, go
through the encoder.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.schema import ConfigError, PolicyConfig
from envs.spec import VOCABULARY, EnvSpec


class _PixelConv(nn.Conv2d):
    """First convolution on raw pixels: 1/255 is folded into the weights, which is 28,224 multiplications
    less an Atari frame; the cast also brings the image into the weights' layout. Under autocast it loses
    nothing: bfloat16 has all whole numbers up to 256."""

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.weight.dtype
        last = self.weight.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        pixels = input.to(dtype=dtype, memory_format=layout)
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
    """Convolutions, then one fully connected layer with a ReLU. Weights lie channels_last, the layout that
    convolutions are fastest in (on a CPU by a third to a half: docs/log.md); activations follow them."""

    dtype: torch.dtype | None = None
    """What its products are formed of, by autocast; None: its weights' own. The features that it returns are
    of the weights' dtype either way (configs/compute.py)."""

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
                "choose policy.encoder 'deep', which fits any size"
            ) from error
        self.linear = nn.Linear(flat, features)

    def forward(self, observation: Tensor) -> Tensor:
        if self.dtype is None:
            return F.relu(self.linear(self.convolutions(observation).flatten(1)))
        with torch.autocast(observation.device.type, self.dtype):
            features = self.linear(self.convolutions(observation).flatten(1))
        return F.relu(features.to(self.linear.weight.dtype))


def _numbers(observation: Tensor) -> Tensor:
    """[M, ...] as [M, n] floats; bytes as fractions of 255."""
    flat = observation.flatten(1)
    return flat / 255.0 if flat.dtype == torch.uint8 else flat


class MLPEncoder(nn.Module):
    """One hidden layer and one output layer, both with a ReLU, over the flattened observation."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, features), nn.ReLU(), nn.Linear(features, features), nn.ReLU()
        )

    def forward(self, observation: Tensor) -> Tensor:
        return self.layers(_numbers(observation))


class FlatEncoder(nn.Module):
    """No encoder: the flattened observation itself."""

    def forward(self, observation: Tensor) -> Tensor:
        return _numbers(observation)


class InstructionEncoder(nn.Module):
    """The last output of an LSTM over the words of a sentence (IMPALA, figure 3: for language levels)."""

    EMBEDDING, FEATURES = 20, 64

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY + 1, self.EMBEDDING)
        self.lstm = nn.LSTM(self.EMBEDDING, self.FEATURES, batch_first=True)

    def forward(self, observation: Tensor) -> Tensor:
        """observation [M, words] int64, 0 after the last word. Zeros where there is no word at all."""
        outputs, _ = self.lstm(self.embedding(observation))
        length = (observation > 0).sum(1)
        last = (length - 1).clamp(min=0)[:, None, None].expand(-1, 1, self.FEATURES)
        return outputs.gather(1, last).squeeze(1) * (length > 0).unsqueeze(-1)


def _module_name(name: str) -> str:
    """A part's name as that of a submodule, which may hold no `.` and be no attribute of modules; different
    names stay different."""
    if name and "." not in name and "=" not in name and not hasattr(nn.ModuleDict(), name):
        return name
    return "=" + name.replace("=", "==").replace(".", "=d")


class PartsEncoder(nn.Module):
    """One encoder a part, and one for all vectors together; their features side by side."""

    def __init__(self, parts: dict[str, nn.Module], vectors: list[str], vector_encoder: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({_module_name(name): encoder for name, encoder in parts.items()})
        self.names = list(parts)
        self.vectors = vectors
        self.vector_encoder = vector_encoder

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        encoders = zip(self.names, self.parts.values(), strict=True)
        features = [encoder(observation[name]) for name, encoder in encoders]
        if self.vectors:
            joined = torch.cat([_numbers(observation[name]) for name in self.vectors], dim=1)
            features.append(self.vector_encoder(joined))
        return torch.cat(features, dim=1)


def make_encoder(spec: EnvSpec, config: PolicyConfig) -> tuple[nn.Module, int]:
    """The encoder and the width of its features.

    Raises ConfigError where the encoder does not fit the observation.
    """
    if not isinstance(spec.observation_shape, dict):
        return _single(spec.id, spec.observation_shape, spec.observation_dtype, config)
    parts: dict[str, nn.Module] = {}
    vectors: list[str] = []
    images = width = 0
    for name, shape in spec.observation_shape.items():
        dtype = spec.observation_dtype[name]
        if dtype != "int64" and not is_image(shape, dtype):
            vectors.append(name)
            continue
        images += dtype == "uint8"
        parts[name], features = _single(f"{spec.id} ({name})", shape, dtype, config)
        width += features
    if config.encoder in _STACKS and not images:
        raise ConfigError(
            f"policy.encoder = {config.encoder!r} needs an image, but there is none among the parts of "
            f"{spec.id}: {', '.join(spec.observation_shape)}; use policy.encoder 'mlp' or 'auto'"
        )
    vector_encoder: nn.Module = FlatEncoder()
    if vectors:
        features = sum(math.prod(spec.observation_shape[name]) for name in vectors)
        if not images:
            vector_encoder, features = _single(spec.id, (features,), "float32", config)
        width += features
    return PartsEncoder(parts, vectors, vector_encoder), width


def is_image(shape: tuple[int, ...], dtype: str) -> bool:
    return dtype == "uint8" and len(shape) == 3


def _fitting(shape: tuple[int, ...]) -> str:
    """The stack of convolutions for an image: the first of these whose strides leave something of it."""
    side = min(shape[1:])
    return "nature" if side >= 36 else "shallow" if side >= 20 else "deep"


def _single(env_id: str, shape: tuple[int, ...], dtype: str, config: PolicyConfig) -> tuple[nn.Module, int]:
    """The encoder of one image, one text or one vector."""
    kind, image = config.encoder, is_image(shape, dtype)
    if dtype == "int64":
        return InstructionEncoder(), InstructionEncoder.FEATURES
    if kind == "auto":
        kind = _fitting(shape) if image else "mlp"
    if kind in _STACKS:
        if not image:
            raise ConfigError(
                f"policy.encoder = {kind!r} needs uint8 images [C, H, W], but {env_id} gives "
                f"{dtype}{list(shape)}; use policy.encoder 'mlp' or 'auto'"
            )
        return ImageEncoder(kind, (shape[0], shape[1], shape[2]), config.features), config.features
    if image:
        raise ConfigError(
            f"policy.encoder = {kind!r} reads vectors, but {env_id} gives pixels {list(shape)}; use "
            "policy.encoder 'auto', or 'deep', which fits any size"
        )
    if kind == "none":
        return FlatEncoder(), math.prod(shape)
    return MLPEncoder(math.prod(shape), config.features), config.features
