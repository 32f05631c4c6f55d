"""What an objective is to the learner: the losses that one batch is learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from learner.batcher import Batch
from learner.records.timing import Stopwatch


def _nothing() -> dict[str, float | Tensor]:
    return {}


@dataclass(frozen=True, slots=True)
class Loss:
    """One gradient step's worth of a batch."""

    total: Tensor
    """What is differentiated, a scalar."""
    metrics: Mapping[str, Tensor]
    """Scalars on the device by metric name, the same names in all losses of a run; the learner reports their
    means over the losses of the batch."""
    finish: Callable[[], Mapping[str, float | Tensor]] = _nothing
    """Called after backward and before the optimiser's step; returns metrics that only some losses have:
    numbers, or scalars on the device."""


class Objective(Protocol):
    """One for a run. `learner/objectives/__init__.py` lists them by name."""

    def losses(self, batch: Batch, update: int, watch: Stopwatch) -> Iterator[Loss]:
        """The losses that the weights are moved by on `batch`, one optimiser step each: what comes after a
        `yield` sees weights that have moved.

        update: batches learned from before this one. watch: takes a lap named `rtrl` for work on traces, and
        one named `forward` for the rest of what an objective does.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on to the bit: nested tensors and plain numbers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
