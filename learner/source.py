"""What the loop needs of a fleet of actors."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from numpy.typing import NDArray

from actors.rollout import Rollout


class Counters(Protocol):
    actors: int
    actor_restarts: int
    env_errors: int
    lost_calls: int
    starved_s: float
    rollouts_ready: int


class RolloutSource(Protocol):
    @property
    def counters(self) -> Counters: ...

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None: ...

    def unrolls(self) -> dict[str, int]: ...

    def state_dict(self) -> dict[str, NDArray[Any]] | None: ...

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None: ...
