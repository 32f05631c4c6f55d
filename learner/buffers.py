"""The memory that batches lie in, used again and again.

    columns of rollouts --join--> host memory --send--> the device's --stacked--> as the policy takes them

On a CPU the host's memory is the device's. On a GPU it is pinned, and nobody waits for the copy but whoever
joins the next batch in the same buffers. Where batches are sent on a stream of their own, `hand_over` and
`release` keep the two streams apart.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.frame_stack import stack_frames
from learner.records.timing import Stopwatch


class Buffers:
    """Of one batch. It is valid until the next one is joined here."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._host: dict[str, Tensor] = {}
        self._sent: dict[str, Tensor] = {}
        self._stacked: Tensor | None = None
        self._copying: Stopwatch | None = None
        """Of the last batch, from the host."""
        self._arrived: torch.cuda.Event | None = None
        self._used: torch.cuda.Event | None = None

    def join(self, columns: Mapping[str, tuple[Sequence[NDArray[Any]], int]]) -> float:
        """Joins the arrays of each name along an axis, in host memory, once the last batch has left that.
        Returns the milliseconds that it took."""
        start = time.perf_counter()
        if self._copying is not None:
            self._copying.wait()
        for name, (arrays, axis) in columns.items():
            shape = list(arrays[0].shape)
            shape[axis] = sum(array.shape[axis] for array in arrays)
            dtype = torch.from_numpy(np.empty(0, arrays[0].dtype)).dtype
            buffer = self._host.get(name)
            if buffer is None or list(buffer.shape) != shape or buffer.dtype != dtype:
                buffer = torch.empty(shape, dtype=dtype, pin_memory=self._device.type == "cuda")
                self._host[name] = buffer
            np.concatenate(arrays, axis=axis, out=buffer.numpy())
        return 1e3 * (time.perf_counter() - start)

    def send(self, names: Sequence[str], frames: str | None) -> tuple[dict[str, Tensor], Stopwatch]:
        """What was joined under these names, on the device, behind what the current stream has been given.

        `frames`: which of them is stacked there, by `game_over`, which is used up.
        """
        if self._used is not None:
            torch.cuda.current_stream(self._device).wait_event(self._used)
        copying = self._copying = Stopwatch(self._device)
        sent = {name: self._copied(name) for name in names}
        if frames is not None:
            sent[frames] = self._stacked = stack_frames(sent[frames], sent.pop("game_over"), self._stacked)
        copying.lap("transfer")
        if self._device.type == "cuda":
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(self._device))
        return sent, copying

    def _copied(self, name: str) -> Tensor:
        host = self._host[name]
        if self._device.type != "cuda":
            return host
        there = self._sent.get(name)
        if there is None or there.shape != host.shape or there.dtype != host.dtype:
            # Kept, so that no other stream's tensor is ever given its memory.
            there = self._sent[name] = torch.empty_like(host, device=self._device, pin_memory=False)
        return there.copy_(host, non_blocking=True)

    def hand_over(self) -> None:
        """What the current stream is given from now on finds the batch whole."""
        if self._arrived is not None:
            torch.cuda.current_stream(self._device).wait_event(self._arrived)

    def release(self) -> None:
        """The next batch will not overwrite this one before the current stream is through with what it has
        been given so far."""
        if self._device.type == "cuda":
            self._used = torch.cuda.Event()
            self._used.record(torch.cuda.current_stream(self._device))
