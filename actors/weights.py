"""How weights reach the actors: by version, through a source that somebody else implements.

The learner publishes, the actors pull. The protocol stands here, on the actors' side, so that
acting imports no training code; `learner/publish.py` implements it and `launch.py` hands it over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class WeightSnapshot:
    """The policy's parameters at one learner update."""

    version: int
    """Learner updates done when it was taken; 0 for the initial weights."""
    arrays: dict[str, NDArray[Any]]
    """Name (as in `Policy.state_dict`) to array. May be read-only memory shared with others."""


class WeightSource(Protocol):
    def fetch(self, newer_than: int) -> WeightSnapshot | None:
        """The newest snapshot if its version is above `newer_than`, else None. Never blocks for one."""
        ...
