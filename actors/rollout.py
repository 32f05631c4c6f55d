"""The wire types: what an actor tells the learner, and nothing else.

Time-major. T unroll length, E env slots of one actor, A actions. Index t of observation, reward,
terminated, truncated and reset speaks of arriving at observation t; index t of action and
behaviour_logits speaks of the decision taken on it. So action t earns reward t+1.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from envs.spec import Observation


def map_observation(function: Callable[..., Any], *observations: Any) -> Any:
    """`function` of the arrays or tensors that one or more observations consist of, part by part."""
    first = observations[0]
    if isinstance(first, dict):
        return {name: function(*(observation[name] for observation in observations)) for name in first}
    return function(*observations)


def observation_parts(observation: Any) -> Iterator[tuple[str, Any]]:
    """(label, array): `observation` itself, or `observation.NAME` for each part of it."""
    if isinstance(observation, dict):
        yield from ((f"observation.{name}", part) for name, part in observation.items())
    else:
        yield "observation", observation


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeStats:
    """One finished game, in raw units."""

    episodic_return: float
    """Sum of raw rewards."""
    episodic_length: int
    """Agent steps."""
    level: str
    slot: int
    """Env slot: the column of the rollout that tells of it."""
    ended_by: Literal["termination", "truncation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """T steps of the E streams of one actor, or of some of them (`columns`).

    Streams are numbered through the run, whoever carries them: column e is stream first_stream + e.
    """

    observation: Observation
    """[T+1, E, ...] as `EnvSpec` says; x_T is again x_0 of the stream's next rollout. Where that stacks S
    frames, each frame once, [S-1 + T+1, E, c, H, W]: actors/frame_stack.py."""
    reward: NDArray[np.float32]
    """[T+1, E] came with observation t; raw, never clipped on the wire."""
    terminated: NDArray[np.bool_]
    """[T+1, E] the episode ended on arriving at observation t."""
    truncated: NDArray[np.bool_]
    """[T+1, E] the episode was cut off on arriving at observation t."""
    reset: NDArray[np.bool_]
    """[T+1, E] observation t is the first of an episode: state and trace are zeroed before it is consumed."""
    action: NDArray[Any]
    """[T, E] int64, or [T, E, A] float32 (A dimensions) or int64 (A choices); a dummy, ignored by the env,
    where terminated[t] or truncated[t]."""
    behaviour_logits: NDArray[np.float32]
    """[T, E, P] parameters of the action's distribution (actors/policy/distributions.py)."""
    previous_action: NDArray[Any]
    """[E] or [E, A]: the action before observation 0; without meaning where reset[0]."""
    initial_state: tuple[NDArray[np.float32], ...]
    """Recurrent state before observation 0 is consumed, each array [E, ...]."""
    actor_id: int
    first_stream: int
    incarnation: int
    """Drawn anew at each (re)start of the actor: with a stream's number it names one life of it."""
    sequence_number: int
    """Counts the rollouts of this incarnation from 0."""
    policy_version_min: int
    """Oldest weights used while acting."""
    policy_version_max: int
    """Newest weights used while acting."""
    game_over: NDArray[np.bool_] | None = None
    """[T+1, E] a whole game ended on arriving at observation t: the next one begins a new stack. None where
    frames are not stacked."""
    episodes: list[EpisodeStats] = field(default_factory=list)
    """Games that ended in this rollout."""
    finished_at: float = field(default_factory=time.time)
    """Unix time of its last step, by the clock of the actor's node."""

    @property
    def unroll_length(self) -> int:
        return self.action.shape[0]

    @property
    def num_streams(self) -> int:
        return self.action.shape[1]

    def columns(self, start: int, stop: int) -> Rollout:
        """The streams of the columns from `start` on, before `stop`, alone: views, with their own games."""
        kept = slice(start, stop)
        timed = ("reward", "terminated", "truncated", "reset", "action", "behaviour_logits", "game_over")
        cut: dict[str, Any] = {
            name: array[:, kept] for name in timed if (array := getattr(self, name)) is not None
        }
        return dataclasses.replace(
            self,
            **cut,
            observation=map_observation(lambda part: part[:, kept], self.observation),
            previous_action=self.previous_action[kept],
            initial_state=tuple(array[kept] for array in self.initial_state),
            first_stream=self.first_stream + start,
            episodes=[
                dataclasses.replace(episode, slot=episode.slot - start)
                for episode in self.episodes
                if start <= episode.slot < stop
            ],
        )

    def validate(self) -> None:
        """Raises ValueError naming the first field whose shape, type or values are wrong."""
        kind, shape = self.action.dtype.name, self.action.shape
        if (kind, len(shape)) not in (("int64", 2), ("float32", 3), ("int64", 3)):
            raise ValueError(
                f"rollout.action is {kind}{list(shape)}, expected int64[T, E] or float32 or int64[T, E, A]"
            )
        T, E, *each = shape
        expected: dict[str, tuple[tuple[int, ...], str]] = {
            "reward": ((T + 1, E), "float32"),
            "terminated": ((T + 1, E), "bool"),
            "truncated": ((T + 1, E), "bool"),
            "reset": ((T + 1, E), "bool"),
            "previous_action": ((E, *each), kind),
        }
        if self.game_over is not None:
            expected["game_over"] = ((T + 1, E), "bool")
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.dtype(dtype):
                raise ValueError(
                    f"rollout.{name} is {array.dtype}{list(array.shape)}, expected {dtype}{list(shape)}"
                )
        parts = dict(observation_parts(self.observation))
        for name, array in (*parts.items(), ("behaviour_logits", self.behaviour_logits)):
            length = T if name == "behaviour_logits" else T + 1
            older = max(0, len(array) - length) if name in parts and self.game_over is not None else 0
            if array.shape[:2] != (length + older, E):
                raise ValueError(
                    f"rollout.{name} has leading shape {list(array.shape[:2])}, expected {[length, E]}"
                )
        for index, array in enumerate(self.initial_state):
            if array.shape[:1] != (E,):
                raise ValueError(
                    f"rollout.initial_state[{index}] is {list(array.shape)}, expected [{E}, ...]"
                )
        numbers = {name: getattr(self, name) for name in ("reward", "action", "behaviour_logits")}
        for name, array in (parts | numbers).items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"rollout.{name} of actor {self.actor_id} holds NaN or infinity")
