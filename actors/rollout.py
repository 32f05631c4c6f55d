"""The wire types: what an actor tells the learner, and nothing else.

Time-major. T unroll length, E env slots of one actor, A actions. Index t of observation, reward,
terminated, truncated and reset speaks of arriving at observation t; index t of action and
behaviour_logits speaks of the decision taken on it. So action t earns reward t+1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeStats:
    """One finished game, in raw units."""

    episodic_return: float
    """Sum of raw rewards."""
    episodic_length: int
    """Agent steps."""
    level: str
    slot: int
    """Env slot of the actor."""
    ended_by: Literal["termination", "truncation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """T steps of the E streams of one actor."""

    observation: NDArray[Any]
    """[T+1, E, ...] uint8 or float32; x_T is again x_0 of the stream's next rollout."""
    reward: NDArray[np.float32]
    """[T+1, E] came with observation t; raw, never clipped on the wire."""
    terminated: NDArray[np.bool_]
    """[T+1, E] the episode ended on arriving at observation t."""
    truncated: NDArray[np.bool_]
    """[T+1, E] the episode was cut off on arriving at observation t."""
    reset: NDArray[np.bool_]
    """[T+1, E] observation t is the first of an episode: state and trace are zeroed before it is consumed."""
    action: NDArray[np.int64]
    """[T, E] ignored by the env (a dummy step) where terminated[t] or truncated[t]."""
    behaviour_logits: NDArray[np.float32]
    """[T, E, A] of the policy that acted."""
    previous_action: NDArray[np.int64]
    """[E] the action before observation 0; without meaning where reset[0]."""
    initial_state: tuple[NDArray[np.float32], ...]
    """Recurrent state before observation 0 is consumed, each array [E, ...]."""
    actor_id: int
    incarnation: int
    """Drawn anew at each (re)start of the actor: with actor_id it names a stream's life."""
    sequence_number: int
    """Counts the rollouts of this incarnation from 0."""
    policy_version_min: int
    """Oldest weights used while acting."""
    policy_version_max: int
    """Newest weights used while acting."""
    episodes: list[EpisodeStats] = field(default_factory=list)
    """Games that ended in this rollout."""

    @property
    def unroll_length(self) -> int:
        return self.action.shape[0]

    @property
    def num_streams(self) -> int:
        return self.action.shape[1]

    def validate(self) -> None:
        """Raises ValueError naming the first field whose shape, type or values are wrong."""
        T, E = self.action.shape
        expected: dict[str, tuple[tuple[int, ...], str]] = {
            "reward": ((T + 1, E), "float32"),
            "terminated": ((T + 1, E), "bool"),
            "truncated": ((T + 1, E), "bool"),
            "reset": ((T + 1, E), "bool"),
            "action": ((T, E), "int64"),
            "previous_action": ((E,), "int64"),
        }
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.dtype(dtype):
                raise ValueError(
                    f"rollout.{name} is {array.dtype}{list(array.shape)}, expected {dtype}{list(shape)}"
                )
        for name, length in (("observation", T + 1), ("behaviour_logits", T)):
            array = getattr(self, name)
            if array.shape[:2] != (length, E):
                raise ValueError(
                    f"rollout.{name} has leading shape {list(array.shape[:2])}, expected {[length, E]}"
                )
        for index, array in enumerate(self.initial_state):
            if array.shape[0] != E:
                raise ValueError(f"rollout.initial_state[{index}] has {array.shape[0]} slots, expected {E}")
        for name in ("reward", "behaviour_logits"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"rollout.{name} of actor {self.actor_id} holds NaN or infinity")
        if self.observation.dtype.kind == "f" and not np.isfinite(self.observation).all():
            raise ValueError(f"rollout.observation of actor {self.actor_id} holds NaN or infinity")
