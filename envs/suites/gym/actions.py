"""Gymnasium's action spaces as ours: what an action of ours means to the environment.

Discrete              numbered from 0
MultiDiscrete         several choices at once, each numbered from 0; MultiBinary: each between 0 and 1
Box                   bounded, of floats: [-1, 1] stands for its lowest to its highest value
Dict, Tuple           of discrete spaces alone: several choices; of boxes alone: one box
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.spec import EnvError
from envs.suites.gym.spaces import check_space

_MOST_CHOICES = 100_000
"""Of all choices of one action: so wide is the policy's head."""

Take = Callable[[NDArray[Any]], Any]
"""The action of an env from the numbers of one slot that are its own."""


@dataclass(frozen=True, slots=True)
class Actions:
    """How our actions become the env's."""

    number: int
    """`EnvSpec.num_actions`"""
    continuous: bool
    sizes: tuple[int, ...]
    """`EnvSpec.action_sizes`"""
    decode: Take
    """Of one slot."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    take: Take
    sizes: tuple[int, ...] = ()
    """Of discrete choices."""
    dimensions: int = 0
    """Of a continuous action."""

    @property
    def width(self) -> int:
        return self.dimensions or len(self.sizes)


def decode_actions(env_id: str, space: spaces.Space[Any]) -> Actions:
    """Raises EnvError for a space that no policy of ours can play."""
    check_space(env_id, "action", space)
    leaves: list[_Leaf] = []
    take = _tree(env_id, space, leaves)
    sizes = tuple(size for leaf in leaves for size in leaf.sizes)
    dimensions = sum(leaf.dimensions for leaf in leaves)
    if bool(sizes) == bool(dimensions):
        raise _refusal(env_id, space, "it is both discrete and continuous" if sizes else "there is no choice")
    if sum(sizes) > _MOST_CHOICES:
        raise _refusal(env_id, space, f"it has {sum(sizes):,} choices, of {_MOST_CHOICES:,} at most")
    if isinstance(space, spaces.Discrete):
        return Actions(sizes[0], False, (), lambda row: take(row[None]))
    return Actions(dimensions or len(sizes), dimensions > 0, sizes, take)


def _refusal(env_id: str, space: object, reason: str) -> EnvError:
    return EnvError(
        f"env.id = {env_id!r} has the actions {space}, which no policy here can play: {reason}. Wrap the "
        "environment: --env.wrappers MODULE:FUNCTION"
    )


def _tree(env_id: str, space: spaces.Space[Any], leaves: list[_Leaf], start: int = 0) -> Take:
    """What takes the action of `space` out of a row of numbers, its own from `start` on; adds its leaves."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        leaf = _leaf(env_id, space)
        leaves.append(leaf)
        return lambda row: leaf.take(row[start : start + leaf.width])
    inner: dict[Any, Take] = {}
    for key, below in space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces):
        check_space(env_id, "action", below)
        inner[key] = _tree(env_id, below, leaves, sum(leaf.width for leaf in leaves))
    if isinstance(space, spaces.Tuple):
        return lambda row: tuple(take(row) for take in inner.values())
    return lambda row: {key: take(row) for key, take in inner.items()}


def _leaf(env_id: str, space: spaces.Space[Any]) -> _Leaf:
    match space:
        case spaces.Discrete():
            start, kind = int(space.start), np.dtype(space.dtype).type
            return _Leaf(lambda row: kind(row[0] + start), sizes=(int(space.n),))
        case spaces.MultiDiscrete():
            shape, dtype, starts = space.shape, space.dtype, space.start.ravel()
            return _Leaf(
                lambda row: (row + starts).astype(dtype).reshape(shape),
                sizes=tuple(int(n) for n in space.nvec.ravel()),
            )
        case spaces.MultiBinary():
            return _Leaf(
                lambda row: row.astype(space.dtype).reshape(space.shape), sizes=(2,) * math.prod(space.shape)
            )
        case spaces.Box():
            return _Leaf(_scaled(env_id, space), dimensions=math.prod(space.shape))
    raise _refusal(env_id, space, "only Discrete, MultiDiscrete, MultiBinary and a bounded Box can be")


def _scaled(env_id: str, space: spaces.Box) -> Take:
    """In float64: the span of a space's bounds need not be a number of the space's own type."""
    if space.dtype.kind != "f":
        raise _refusal(env_id, space, "a Box of whole numbers is a MultiDiscrete")
    dtype: Any = space.dtype
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    largest = min(np.finfo(np.float32).max, np.finfo(dtype).max)
    if not (np.isfinite([low, high]).all() and np.abs([low, high]).max(initial=0) < largest):
        raise _refusal(env_id, space, "its bounds are infinite, or the largest number there is")

    def take(row: NDArray[Any]) -> Any:
        moved = low + (row.astype(np.float64).reshape(space.shape) + 1.0) * ((high - low) / 2)
        return np.asarray(moved.clip(low, high).astype(dtype))

    return take
