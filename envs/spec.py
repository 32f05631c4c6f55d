"""What every environment looks like from outside: one vector interface, one rule at episode ends.

The rule is next-step autoreset. The final observation of an episode is an ordinary observation;
the action given on it is ignored, and the step returns the first observation of the new episode
with reward 0 and both flags False. An env that has no final observation repeats its last one.
At most one of the two flags is True.

One exception, Atari games whose lost lives terminate: there `terminated` without `game_over` means
that the game plays on. The next step is a dummy to the learner but an ordinary one to the game:
its action counts (or FIRE in its place, in a game that waits for it), and its reward belongs to the
game's return. So a return is the sum of all rewards up to `game_over`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Observation: TypeAlias = Any
"""Of all slots: an array [E, ...], or a dict of several by name."""


VOCABULARY = 1000
"""Words of an instruction are numbered 1 to VOCABULARY, by hash; 0 is no word and fills up the end."""


class EnvError(Exception):
    """An environment that cannot be made or used as asked. The message says what to do."""


class EnvFaultError(RuntimeError):
    """An environment's own code failed while it was played, or what it returned is not what its spec says.
    The message names the environment and holds its error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvSpec:
    """Shapes and units of one vector environment."""

    id: str
    observation_shape: Any
    """Shape of one slot's observation, or a dict of shapes where it has several parts; images are channels
    first."""
    observation_dtype: Any
    """In the same form: `uint8` (0 to 255; pixels where the shape is [C, H, W]), `float32`, or `int64` (words
    by number; 0: none)."""
    coded: tuple[tuple[str, int, int], ...] = ()
    """Numbers of float32 observations that are codes (one-hots, bits) and no measurements: part (`""` where
    there are no parts), first and end among the part's numbers. Normalisation leaves them alone. (One-hots
    that make up a picture, as MiniGrid's planes, are none: what matters there is rare.)"""
    num_actions: int
    """Discrete actions to choose from; or dimensions of a continuous one; or choices made at once."""
    continuous_actions: bool = False
    action_sizes: tuple[int, ...] = ()
    """Of an action that consists of several discrete choices: among how many each of them is. Else empty."""
    frames_per_step: int = 1
    """Emulator frames of one agent step (the action repeat)."""
    frames_stacked: int = 1
    """Frames S that the channels of an image hold, the newest in the last of them: those of the last S steps,
    zeros before a game's first. More than 1 only where the image is the whole observation: then the wire
    carries each frame once, and what was stacked by another rule would not come out again."""
    levels: tuple[str, ...] = ()
    """The level that each slot plays, one name a slot."""
    action_names: tuple[str, ...] = ()
    """Names of the discrete actions, for people; empty where the env has none."""


@dataclass(frozen=True, slots=True)
class VecStep:
    """What one step of all slots returned. Fresh arrays: the caller may keep them."""

    observation: Observation
    """[E, ...]"""
    reward: NDArray[np.float32]
    """[E], raw, never clipped."""
    terminated: NDArray[np.bool_]
    """[E], this observation is a terminal one."""
    truncated: NDArray[np.bool_]
    """[E], the episode was cut off at this observation; its value still bootstraps."""
    game_over: NDArray[np.bool_]
    """[E], a scored episode ended here. Equals terminated | truncated, except where a lost life
    terminates for the learner but the game, which is what a return is counted over, goes on."""


@runtime_checkable
class VecEnv(Protocol):
    """E slots stepped together."""

    spec: EnvSpec
    num_envs: int

    def reset(self, seed: int) -> Observation:
        """Starts all slots anew, each with its own stream of randomness drawn from `seed`.
        Returns the first observations [E, ...]."""
        ...

    def step(self, actions: NDArray[Any]) -> VecStep:
        """`actions`: [E] int64 in [0, num_actions); continuous: [E, num_actions] float32 in [-1, 1]; of
        several choices: [E, num_actions] int64, choice i in [0, action_sizes[i])."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Sends(Protocol):
    """An env whose slots run beside the caller, in threads or processes of their own: a step's two halves."""

    def send(self, actions: NDArray[Any]) -> None:
        """Begins a step. `actions` as `VecEnv.step`; they may be used again once it returns."""
        ...

    def recv(self) -> VecStep:
        """Waits for the step begun by `send`."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """An env whose whole state can be written down, so that a resumed inline run is bit-exact."""

    def state_dict(self) -> dict[str, NDArray[Any]]: ...

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None: ...


@runtime_checkable
class Drawable(Protocol):
    """An env that draws itself for people to see (`envs.make.make_drawn`)."""

    def draw(self) -> NDArray[np.uint8]:
        """The first slot as it stands, [H, W, 3]. Raises EnvError where this machine cannot draw it."""
        ...


def check_actions(spec: EnvSpec, num_envs: int, actions: NDArray[Any]) -> None:
    """Raises ValueError unless `actions` has the shape and the range that `VecEnv.step` states."""
    joint = spec.continuous_actions or bool(spec.action_sizes)
    shape = (num_envs, spec.num_actions) if joint else (num_envs,)
    if actions.shape != shape:
        raise ValueError(f"{spec.id}: actions have shape {list(actions.shape)}, expected {list(shape)}")
    if spec.action_sizes:
        wrong = (actions < 0) | (actions >= np.array(spec.action_sizes))
        if wrong.any():
            slot, choice = np.argwhere(wrong)[0]
            raise ValueError(
                f"{spec.id}: choice {choice} of slot {slot} is {actions[slot, choice]}, "
                f"expected 0 to {spec.action_sizes[choice] - 1}"
            )
        return
    least, most = (-1.0, 1.0) if spec.continuous_actions else (0, spec.num_actions - 1)
    low, high = actions.min(), actions.max()
    if not (low >= least and high <= most):  # also where one is NaN
        raise ValueError(f"{spec.id}: actions {low} to {high}, expected {least} to {most}")


def check_observation(
    spec: EnvSpec, num_envs: int, observation: Observation, step: int, first_slot: int = 0
) -> None:
    """Raises EnvFaultError unless each part has the spec's shape and type, and every number is finite.

    For the message: `step`, env steps since the reset; `first_slot`, the number of the first in the actor.
    """
    shapes, dtypes = spec.observation_shape, spec.observation_dtype
    if not isinstance(shapes, dict):
        _check_array(spec, "observation", observation, (num_envs, *shapes), dtypes, step, first_slot)
        return
    found = sorted(observation) if isinstance(observation, dict) else type(observation).__name__
    if found != sorted(shapes):
        raise EnvFaultError(
            f"{spec.id}: the observation at step {step} is {found}, expected {sorted(shapes)}"
        )
    for name, shape in shapes.items():
        part = observation[name]
        _check_array(spec, f"observation.{name}", part, (num_envs, *shape), dtypes[name], step, first_slot)


def check_step(spec: EnvSpec, num_envs: int, arrived: VecStep, step: int, first_slot: int = 0) -> None:
    """The same for all that a step returned."""
    check_observation(spec, num_envs, arrived.observation, step, first_slot)
    _check_array(spec, "reward", arrived.reward, (num_envs,), np.float32, step, first_slot)
    for name in ("terminated", "truncated", "game_over"):
        _check_array(spec, name, getattr(arrived, name), (num_envs,), np.bool_, step, first_slot)


def _check_array(
    spec: EnvSpec,
    name: str,
    array: NDArray[Any],
    shape: tuple[int, ...],
    dtype: Any,
    step: int,
    first_slot: int,
) -> None:
    castable = array.dtype == dtype or np.can_cast(array.dtype, dtype, "same_kind")
    if array.shape != shape or not castable:
        raise EnvFaultError(
            f"{spec.id}: {name} at step {step} is {array.dtype}{list(array.shape)}, expected "
            f"{np.dtype(dtype)}{list(shape)}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        slot, *place = np.argwhere(~np.isfinite(array))[0].tolist()
        level, value = spec.levels[slot] if spec.levels else spec.id, array[(slot, *place)]
        raise EnvFaultError(
            f"{spec.id}: {name}{place or ''} at step {step} is {value} in slot {first_slot + slot}"
            + (f", level {level}" if level != spec.id else "")
        )
