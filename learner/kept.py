"""Tensors that stay what they were where an update turns out not to be finite, without asking the device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Kept:
    """Copies of `tensors`, taken before something moves them."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = list(tensors)
        self._before = [tensor.detach().clone() for tensor in self._tensors]

    @torch.no_grad()
    def restore_unless(self, sound: Tensor) -> None:
        """sound [] bool, on the tensors' device. Selects: 0 * NaN is NaN."""
        for tensor, before in zip(self._tensors, self._before, strict=True):
            torch.where(sound, tensor, before, out=tensor.detach())
