"""Gymnasium's observation spaces as ours, and the one place where what an environment shows is translated.

What becomes of a space without others in it: leaves.py. Of a Dict or a Tuple, images and texts are parts by
name, all else is joined to one part `vector` (bytes of it as fractions of 255); a single array where that is
all there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.spec import EnvError, EnvFaultError, Observation
from envs.suites.gym.leaves import Leaf, Path, UnfitError, describe, make_leaf, refusal


class ObservationReader:
    """From what an environment of one space shows to our observations.

    Raises EnvError for a space that no policy of ours can read.
    """

    def __init__(self, env_id: str, space: spaces.Space[Any]) -> None:
        self._env_id, self._space = env_id, space
        leaves = [(path, make_leaf(env_id, path, leaf)) for path, leaf in _leaves(env_id, space)]
        if not leaves:
            raise refusal(env_id, (), space, "there is nothing in it")
        self._nested = isinstance(space, spaces.Dict | spaces.Tuple)
        if not self._nested:
            self._places: list[tuple[str, slice, Leaf]] = [("", slice(None), leaves[0][1])]
            self.shape: Any = leaves[0][1].shape
            self.dtype: Any = leaves[0][1].dtype
            self.coded = (("", 0, math.prod(self.shape)),) if leaves[0][1].coded else ()
            return
        taken: set[str] = set()
        names = [_unique("_".join(map(str, path)) or "_", taken) for path, leaf in leaves if not leaf.joins]
        vector, width = _unique("vector", taken), 0
        self._places, parts = [], iter(names)
        for _, leaf in leaves:
            if leaf.joins:
                size = math.prod(leaf.shape)
                self._places.append((vector, slice(width, width + size), leaf))
                width += size
            else:
                self._places.append((next(parts), slice(None), leaf))
        self.shape = {name: leaf.shape for name, _, leaf in self._places if not leaf.joins}
        self.dtype = {name: leaf.dtype for name, _, leaf in self._places if not leaf.joins}
        if width:
            self.shape[vector], self.dtype[vector] = (width,), "float32"
        self._single = vector if list(self.shape) == [vector] else ""
        if self._single:
            self.shape, self.dtype = self.shape[vector], self.dtype[vector]
        self.coded = tuple(
            ("" if self._single else vector, place.start, place.stop)
            for _, place, leaf in self._places
            if leaf.joins and (leaf.coded or leaf.dtype == "uint8")
        )
        """As in `EnvSpec`; bytes joined to the vector are fractions of their range, and stay so."""

    def read(self, values: Sequence[Any]) -> Observation:
        """Fresh arrays [E, ...] of what E slots show. Raises EnvFaultError where that is not in the space."""
        out = self._empty(len(values))
        # What is too large for float32 becomes an infinity, which is looked for later.
        with np.errstate(over="ignore"):
            for slot, value in enumerate(values):
                try:
                    self._read(value, out, slot)
                except UnfitError as unfit:
                    where = "".join(f"[{key!r}]" for key in unfit.path)
                    raise EnvFaultError(
                        f"{self._env_id}: observation{where} of slot {slot} is {unfit.found}, expected "
                        f"{unfit.expected}"
                    ) from None
        return out[""] if "" in out else out[self._single] if self._single else out

    def _read(self, value: Any, out: dict[str, NDArray[Any]], slot: int) -> None:
        for (name, place, leaf), (path, one) in zip(self._places, _values(self._space, value), strict=True):
            try:
                if not self._nested:
                    leaf.write(one, out[name][slot : slot + 1].reshape(leaf.shape))
                elif not leaf.joins:
                    leaf.write(one, out[name][slot])
                elif leaf.dtype == "float32":
                    leaf.write(one, out[name][slot, place].reshape(leaf.shape))
                else:
                    numbers = np.empty(leaf.shape, np.uint8)
                    leaf.write(one, numbers)
                    np.multiply(numbers.reshape(-1), np.float32(1 / 255), out=out[name][slot, place])
            except UnfitError as unfit:
                unfit.path = path
                raise

    def _empty(self, slots: int) -> dict[str, NDArray[Any]]:
        if isinstance(self.shape, dict):
            return {name: np.empty((slots, *shape), self.dtype[name]) for name, shape in self.shape.items()}
        return {self._single if self._nested else "": np.empty((slots, *self.shape), self.dtype)}


def _unique(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def check_space(env_id: str, what: str, space: object) -> None:
    """Raises EnvError for what is no space of Gymnasium's."""
    if not isinstance(space, spaces.Space):
        kind, told = type(space), describe(space)
        old = kind.__module__.partition(".")[0] == "gym"
        raise EnvError(
            f"env.id = {env_id!r}: its {what}_space is {told} ({kind.__module__}.{kind.__name__}), "
            + ("the old package gym: take its spaces from gymnasium" if old else "no space of gymnasium")
        )


def _leaves(env_id: str, space: Any, path: Path = ()) -> Iterator[tuple[Path, spaces.Space[Any]]]:
    check_space(env_id, "observation", space)
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        yield path, space
        return
    for key, below in space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces):
        yield from _leaves(env_id, below, (*path, key))


def _values(space: spaces.Space[Any], value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The values of the leaves, in the order of `_leaves`."""
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping) or value.keys() != space.spaces.keys():
            found = list(value) if isinstance(value, Mapping) else value
            raise UnfitError(found, f"a dict of {', '.join(map(repr, space.spaces))}", path)
        for key, below in space.spaces.items():
            yield from _values(below, value[key], (*path, key))
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
            raise UnfitError(value, f"a tuple of {len(space.spaces)}", path)
        for index, below in enumerate(space.spaces):
            yield from _values(below, value[index], (*path, index))
    else:
        yield path, value
