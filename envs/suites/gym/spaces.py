"""Gymnasium's spaces as ours: what a batch of raw observations turns into, and what an action of ours means.

Box of uint8          as it is; an image with its channels last is turned to channels first
other Box             float32
Discrete              float32 one-hot; MultiDiscrete: one-hots side by side; MultiBinary: float32
Text                  int64 numbers of its words
Dict, Tuple           images and texts as parts by name, all else joined to one part `vector`; a single
                      array where that is all there is
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.spec import EnvError, Observation
from envs.suites.gym.words import hash_words

_CHANNELS = (1, 3, 4)
_WORDS = 20
"""Words of a text that are kept."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one space is encoded."""

    encode: Callable[[Any], NDArray[Any]]
    """Of a batch as Gymnasium's vector API gives it; fresh arrays [E, ...]."""
    shape: tuple[int, ...]
    dtype: str


def encode_observations(
    env_id: str, space: spaces.Space[Any]
) -> tuple[Callable[[Any], Observation], Any, Any]:
    """What turns a batch of raw observations into ours, with its shape and dtype as in `EnvSpec`.

    Raises EnvError for a space that no policy of ours can read.
    """
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        encoding = _encoding(env_id, space)
        return encoding.encode, encoding.shape, encoding.dtype
    leaves = [(path, _encoding(env_id, leaf)) for path, leaf in _leaves(space)]
    parts = {"_".join(map(str, path)): (path, one) for path, one in leaves if one.dtype != "float32"}
    vectors = [(path, one) for path, one in leaves if one.dtype == "float32"]

    def vector(batch: Any) -> NDArray[np.float32]:
        arrays = [one.encode(_at(batch, path)) for path, one in vectors]
        return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)

    def encode(batch: Any) -> Observation:
        observation = {name: one.encode(_at(batch, path)) for name, (path, one) in parts.items()}
        return observation | {"vector": vector(batch)} if vectors else observation

    width = (sum(math.prod(one.shape) for _, one in vectors),)
    if not parts:
        return vector, width, "float32"
    shapes: dict[str, Any] = {name: one.shape for name, (_, one) in parts.items()}
    dtypes: dict[str, Any] = {name: one.dtype for name, (_, one) in parts.items()}
    if vectors:
        shapes["vector"], dtypes["vector"] = width, "float32"
    return encode, shapes, dtypes


def _leaves(space: spaces.Space[Any], path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inner = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, below in inner:
            yield from _leaves(below, (*path, key))
    else:
        yield path, space


def _at(batch: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        batch = batch[key]
    return batch


def _encoding(env_id: str, space: spaces.Space[Any]) -> Encoding:
    match space:
        case spaces.Discrete():
            start, identity = int(space.start), np.eye(int(space.n), dtype=np.float32)
            return Encoding(lambda batch: identity[np.asarray(batch) - start], identity.shape[:1], "float32")
        case spaces.MultiDiscrete():
            start, identities = (
                space.start.ravel(),
                [np.eye(int(n), dtype=np.float32) for n in space.nvec.ravel()],
            )

            def one_hots(batch: Any) -> NDArray[Any]:
                flat = np.asarray(batch).reshape(len(batch), -1) - start
                return np.concatenate([eye[flat[:, i]] for i, eye in enumerate(identities)], axis=1)

            return Encoding(one_hots, (int(space.nvec.sum()),), "float32")
        case spaces.MultiBinary():
            return Encoding(lambda batch: np.array(batch, np.float32), space.shape, "float32")
        case spaces.Text():
            return Encoding(_numbered_words, (_WORDS,), "int64")
        case spaces.Box():
            return _box(space)
    raise EnvError(
        f"env.id = {env_id!r} observes {space}, which no policy here can read: wrap the environment "
        "(gymnasium.wrappers.TransformObservation) and register the wrapped one"
    )


def _numbered_words(texts: Any) -> NDArray[np.int64]:
    return np.stack([hash_words(str(text), length=_WORDS) for text in texts])


def _box(space: spaces.Box) -> Encoding:
    shape = space.shape
    if space.dtype != np.uint8:
        return Encoding(lambda batch: np.array(batch, np.float32), shape, "float32")
    if len(shape) == 2:
        return Encoding(lambda batch: np.array(batch)[:, None], (1, *shape), "uint8")
    if len(shape) == 3 and shape[-1] in _CHANNELS and shape[0] not in _CHANNELS:
        turned = (shape[2], shape[0], shape[1])
        return Encoding(lambda batch: np.array(np.moveaxis(batch, -1, 1), order="C"), turned, "uint8")
    return Encoding(lambda batch: np.array(batch), shape, "uint8")


@dataclass(frozen=True, slots=True)
class Actions:
    """How our actions become the env's."""

    number: int
    continuous: bool
    decode: Callable[[NDArray[Any]], NDArray[Any]]


def decode_actions(env_id: str, space: spaces.Space[Any]) -> Actions:
    """Discrete: numbered from 0. A bounded Box: [-1, 1] stands for its lowest to its highest value.

    Raises EnvError for any other space.
    """
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return Actions(int(space.n), False, lambda actions: actions + start)
    if isinstance(space, spaces.Box) and space.is_bounded() and np.issubdtype(space.dtype, np.floating):
        low, half = space.low, (space.high - space.low) / 2

        def scaled(actions: NDArray[Any]) -> NDArray[Any]:
            moved = low + (actions.reshape(-1, *space.shape) + 1.0) * half
            return np.clip(moved, low, space.high).astype(space.dtype)

        return Actions(math.prod(space.shape), True, scaled)
    raise EnvError(f"env.id = {env_id!r} has the actions {space}; only Discrete or a bounded Box can be used")
