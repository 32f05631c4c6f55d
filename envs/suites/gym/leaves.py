"""Observation spaces that have no others in them, and what becomes of a value of one.

Box of uint8          bytes: an image [C, H, W], or a vector; an image that ends below 255 is stretched to it
other Box             float32
Discrete              float32 one-hot; MultiDiscrete: one-hots side by side; MultiBinary: float32
Text                  int64 numbers of its words

The sides of an image are the two neighbouring axes whose shorter one is the longest (of equally long ones the
two that are equal): (84, 84, 12), (12, 84, 84) and (4, 84, 84, 3) are twelve channels. An array of bytes in
which that is less than 5 is a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.spec import EnvError
from envs.suites.gym.words import hash_words

_WORDS = 20
"""Words of a text that are kept."""
_SMALLEST_SIDE = 5
"""Pixels. What is smaller is no image."""
_LARGEST_ONE_HOT = 1_000_000

Path = tuple[Any, ...]


class UnfitError(Exception):
    """Something that does not lie in its space."""

    def __init__(self, found: object, expected: str, path: Path = ()) -> None:
        super().__init__(found, expected)
        self.found, self.expected, self.path = describe(found), expected, path


def describe(value: object) -> str:
    """A value of an environment in few words: small ones as they are, arrays by type and shape."""
    if isinstance(value, np.ndarray) and (value.ndim or value.dtype == object):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value[()] if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}..."


@dataclass(frozen=True, slots=True)
class Leaf:
    """How a space that has no others in it is read."""

    shape: tuple[int, ...]
    dtype: str
    write: Callable[[Any, NDArray[Any]], None]
    """One slot's value into its place, an array of that shape and type. Raises UnfitError."""
    coded: bool = False
    """Whether its numbers are one-hots or bits."""

    @property
    def joins(self) -> bool:
        """Whether it is numbers only, no image and no text: becomes one vector with others of its kind."""
        return self.dtype == "float32" or (self.dtype == "uint8" and len(self.shape) != 3)


def refusal(env_id: str, path: Path, space: object, reason: str) -> EnvError:
    where = "".join(f"[{key!r}]" for key in path)
    return EnvError(
        f"env.id = {env_id!r}: observation{where} is {space}, which no policy here can read: {reason}. Wrap "
        "the environment: --env.wrappers MODULE:FUNCTION"
    )


def make_leaf(env_id: str, path: Path, space: spaces.Space[Any]) -> Leaf:
    """Raises EnvError for a space that no policy of ours can read; `path` is where it stands."""

    def check_size(sizes: list[int]) -> None:
        if (total := sum(sizes)) > _LARGEST_ONE_HOT:
            reason = f"as one-hot it has {total:,} numbers, of {_LARGEST_ONE_HOT:,} at most"
            raise refusal(env_id, path, space, reason)

    match space:
        case spaces.Discrete():
            check_size([int(space.n)])
            return _one_hots((), [int(space.n)], [int(space.start)])
        case spaces.MultiDiscrete():
            check_size(space.nvec.ravel().tolist())
            leaf = _one_hots(space.shape, space.nvec.ravel().tolist(), space.start.ravel().tolist())
        case spaces.MultiBinary():
            leaf = Leaf(space.shape, "float32", _write_bits, coded=True)
        case spaces.Text():
            return Leaf((_WORDS,), "int64", _write_words)
        case spaces.Box():
            whole = path == ()  # else which part it was is lost when parts are joined to one vector
            leaf = _bytes(env_id, path, space) if space.dtype == np.uint8 else _numbers(space, not whole)
        case _:
            raise refusal(env_id, path, space, f"{type(space).__name__} has no fixed form")
    if math.prod(leaf.shape) == 0:
        raise refusal(env_id, path, space, "there is nothing in it")
    return leaf


def _array(value: Any, shape: tuple[int, ...], kinds: str, expected: str) -> NDArray[Any]:
    """`value` as an array. Raises UnfitError unless it has the shape, and a type of one of these `kinds`."""
    try:
        array = np.asarray(value)
    except ValueError:  # a list of lists of different lengths
        raise UnfitError(value, expected) from None
    if array.shape != shape or array.dtype.kind not in kinds:
        told = not array.ndim or array.dtype == object or isinstance(value, np.ndarray)
        raise UnfitError(value if told else array, expected)
    return array


def _one_hots(shape: tuple[int, ...], sizes: list[int], starts: list[int]) -> Leaf:
    """Zeros with ones written in."""
    size, start = np.array(sizes, np.int64), np.array(starts, np.int64)
    at = np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0, np.int64)
    alone = f"an integer from {starts[0]} to {starts[0] + sizes[0] - 1}" if not shape else ""

    def write(value: Any, out: NDArray[Any]) -> None:
        array = _array(value, shape, "biu", alone or f"integers {list(shape)}")
        index = array.reshape(-1).astype(np.int64) - start
        wrong = (index < 0) | (index >= size)
        if wrong.any():
            first = int(wrong.argmax())
            number, low = int(index[first] + start[first]), starts[first]
            place = "" if not shape else f" at {[int(i) for i in np.unravel_index(first, shape)]}"
            raise UnfitError(number, f"an integer from {low} to {low + sizes[first] - 1}{place}")
        out[:] = 0
        out[at + index] = 1

    return Leaf((sum(sizes),), "float32", write, coded=True)


def _write_bits(value: Any, out: NDArray[Any]) -> None:
    array = _array(value, out.shape, "biuf", f"zeros and ones {list(out.shape)}")
    if not ((array == 0) | (array == 1)).all():
        raise UnfitError(array.ravel()[((array != 0) & (array != 1)).argmax()], "0 or 1")
    out[...] = array


def _write_words(value: Any, out: NDArray[Any]) -> None:
    """Whatever text: what its space says of lengths and characters is often not so (MiniGrid's missions)."""
    if not isinstance(value, str):
        raise UnfitError(value, "a text")
    out[:] = hash_words(value, length=_WORDS)


def _numbers(space: spaces.Box, finite: bool = False) -> Leaf:
    """finite: what is not a number, or infinite, is found here; else where the whole observation arrives."""
    kinds = "biuf" if space.dtype.kind == "f" else "biu"
    expected = f"{space.dtype}{list(space.shape)}"

    def write(value: Any, out: NDArray[Any]) -> None:
        array = _array(value, space.shape, kinds, expected)
        if finite and not np.isfinite(array).all():
            first = np.argwhere(~np.isfinite(array))[0].tolist()
            raise UnfitError(array[tuple(first)], "a finite number" + (f" at {first}" if first else ""))
        out[...] = array.reshape(out.shape)

    return Leaf(space.shape or (1,), "float32", write)


def _bytes(env_id: str, path: Path, space: spaces.Box) -> Leaf:
    expected = f"uint8{list(space.shape)}"
    low, high = int(space.low.min(initial=255)), int(space.high.max(initial=0))

    def checked(value: Any) -> NDArray[np.uint8]:
        array = _array(value, space.shape, "biu", expected)
        if array.dtype != np.uint8 or (low, high) != (0, 255):
            wrong = (array < low) | (array > high)
            if wrong.any():
                raise UnfitError(array.ravel()[wrong.argmax()], f"a number from {low} to {high}")
        return array.astype(np.uint8, copy=False)

    sides = _sides(space.shape)
    if sides is None and len(space.shape) > 2 and _longest_side(space.shape) >= _SMALLEST_SIDE:
        raise refusal(env_id, path, space, "which axes are the sides of the image cannot be told")
    if sides is None or min(space.shape[side] for side in sides) < _SMALLEST_SIDE:
        if (low, high) != (0, 255):
            return _numbers(space)

        def write_vector(value: Any, out: NDArray[Any]) -> None:
            out[...] = checked(value).reshape(out.shape)

        return Leaf((math.prod(space.shape),), "uint8", write_vector)
    stretched = np.round((np.arange(256.0) - low).clip(0) * 255 / max(high - low, 1)).clip(0, 255)
    table = None if (low, high) == (0, 255) else stretched.astype(np.uint8)
    channels = [axis for axis in range(len(space.shape)) if axis not in sides]
    turned = (*channels, *sides)

    def write(value: Any, out: NDArray[Any]) -> None:
        array = checked(value).transpose(turned).reshape(out.shape)
        out[...] = array if table is None else table[array]

    height, width = (space.shape[side] for side in sides)
    return Leaf((math.prod(space.shape[axis] for axis in channels), height, width), "uint8", write)


def _longest_side(shape: tuple[int, ...]) -> int:
    """The longest among the shorter ones of two neighbouring axes."""
    return max(min(pair) for pair in pairwise(shape))


def _sides(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The two axes of an image's sides; None where there is none, or they cannot be told."""
    if len(shape) < 2:
        return None
    ranks = [(min(a, b), a == b) for a, b in pairwise(shape)]
    best = max(ranks)
    return (ranks.index(best), ranks.index(best) + 1) if ranks.count(best) == 1 else None
