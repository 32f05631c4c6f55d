"""The image encoders are the networks of their papers, written out by hand on their own weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from actors.policy.encoders import ImageEncoder

SHAPE = (4, 52, 44)


def _conv(x: Tensor, weights: Iterator[Tensor], **options: int) -> Tensor:
    return F.conv2d(x, next(weights), next(weights), **options)


def _shallow(x: Tensor, weights: Iterator[Tensor]) -> Tensor:
    """IMPALA (arXiv 1802.01561), figure 3, left."""
    x = F.relu(_conv(x, weights, stride=4))  # 8 x 8
    return F.relu(_conv(x, weights, stride=2))  # 4 x 4


def _nature(x: Tensor, weights: Iterator[Tensor]) -> Tensor:
    """DQN (Mnih et al. 2015), methods: 8 x 8 by 4, 4 x 4 by 2, 3 x 3 by 1."""
    for stride in (4, 2, 1):
        x = F.relu(_conv(x, weights, stride=stride))
    return x


def _deep(x: Tensor, weights: Iterator[Tensor]) -> Tensor:
    """IMPALA, figure 3, right: three times convolution, pooling by 2, and two residual blocks."""
    for _ in range(3):
        x = F.max_pool2d(_conv(x, weights, padding=1), 3, stride=2, padding=1)
        for _ in range(2):
            x = x + _conv(F.relu(_conv(F.relu(x), weights, padding=1)), weights, padding=1)
    return F.relu(x)


@pytest.mark.parametrize(
    ("kind", "by_hand", "kernels"),
    [
        ("shallow", _shallow, [(16, 8), (32, 4)]),
        ("nature", _nature, [(32, 8), (64, 4), (64, 3)]),
        ("deep", _deep, [*[(16, 3)] * 5, *[(32, 3)] * 10]),
    ],
)
def test_an_image_encoder_is_the_network_of_its_paper(kind: str, by_hand, kernels) -> None:
    encoder = ImageEncoder(kind, SHAPE, features=7).double()
    pixels = torch.randint(256, (3, *SHAPE), dtype=torch.uint8)
    weights = iter([parameter.detach() for parameter in encoder.parameters()])
    features = by_hand(pixels.double() / 255.0, weights)
    expected = F.relu(F.linear(features.flatten(1), next(weights), next(weights)))
    assert next(weights, None) is None, "a layer too many"
    torch.testing.assert_close(encoder(pixels), expected, rtol=1e-10, atol=1e-10)
    assert expected.std() > 1e-3
    found = [(p.shape[0], p.shape[-1]) for p in encoder.parameters() if p.ndim == 4]
    assert found == kernels
