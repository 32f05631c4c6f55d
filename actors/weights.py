"""How weights reach the actors: by version, through a source that somebody else implements.

The learner publishes, the actors pull. The protocol stands here, on the actors' side, so that
acting imports no training code; `learner/publish.py` implements it and `launch.py` hands it over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor lies."""

    dtype: str
    start: int
    """In numbers, not bytes."""
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WeightSnapshot:
    """The policy's parameters at one learner update."""

    version: int
    """Learner updates done when it was taken; 0 for the initial weights."""
    flat: dict[str, NDArray[Any]]
    """By dtype: all tensors of it, one after the other. May be read-only memory shared with others."""
    places: dict[str, Place]
    """Of each tensor, by name (as in `Policy.state_dict`)."""

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Each tensor by name: views."""
        return {
            name: self.flat[place.dtype][place.start : place.start + math.prod(place.shape)].reshape(
                place.shape
            )
            for name, place in self.places.items()
        }


class WeightSource(Protocol):
    def fetch(self, newer_than: int) -> WeightSnapshot | None:
        """The newest snapshot if its version is above `newer_than`, else None. Never blocks for one."""
        ...
