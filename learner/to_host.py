"""Numbers on their way from the device to host memory, which nobody waits for before they are needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class ToHost:
    """Copies of tensors, which are fresh ones: those of a CPU are handed out as they are.

    From a GPU they travel, pinned, behind what its stream has been given so far.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._copies = [_begin(tensor) for tensor in tensors]
        self._arrived: torch.cuda.Event | None = None
        if tensors and tensors[0].is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(tensors[0].device))

    @property
    def arrived(self) -> bool:
        return self._arrived is None or self._arrived.query()

    def wait(self) -> list[Tensor]:
        """The copies, once they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copies


def _begin(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor
    place = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return place.copy_(tensor, non_blocking=True)
