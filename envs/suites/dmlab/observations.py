"""What DeepMind Lab's engine observes as what a policy reads: the image, an instruction, and numbers.

    RGB_INTERLEAVED         uint8 [3, H, W]; alone, it is the whole observation, else the part `image`
    INSTR                   int64 [16], the part `instruction`: words by number, 0 after the last
    VEL.TRANS and others    float32, a part each (`vel_trans`), in the engine's units

Source: docs/users/observations.md of google-deepmind/lab. Observations whose size is the number of players,
other texts and other views are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import DmlabConfig
from envs.spec import EnvError, Observation
from envs.suites.gym.words import hash_words

IMAGE = "RGB_INTERLEAVED"
INSTRUCTION = "INSTR"
WORDS = 16
"""Words of an instruction that are kept."""
NUMBERS = {
    "VEL.TRANS": 3,
    "VEL.ROT": 3,
    "TEAM.SCORE": 2,
    "FRAMES_REMAINING_AT_60": 1,
    "DEBUG.POS.TRANS": 3,
    "DEBUG.POS.ROT": 3,
    "DEBUG.PLAYER_ID": 1,
    "DEBUG.FLAGS.RED": 5,
    "DEBUG.FLAGS.BLUE": 5,
    "DEBUG.FLAGS.RED_HOME": 4,
    "DEBUG.FLAGS.BLUE_HOME": 4,
}
"""Observations of numbers, by their size. The engine adds those of DEBUG for players' eyes: an agent that
sees them is told what it should find out."""


class ObservationParts:
    """Which observations the engines are asked for, and where each one goes."""

    def __init__(self, options: DmlabConfig) -> None:
        """Raises EnvError for a name in `env.dmlab.extra_observations` that is unknown or comes twice."""
        extras = _names(options.extra_observations)
        self.asked = [IMAGE, *extras]
        self._parts = dict(zip(self.asked, ("image", *map(_part, extras)), strict=True))
        self._shapes: dict[str, tuple[int, ...]] = {"image": (3, options.height, options.width)}
        self._dtypes = {"image": "uint8"}
        for name in extras:
            shape, dtype = ((WORDS,), "int64") if name == INSTRUCTION else ((NUMBERS[name],), "float32")
            self._shapes[_part(name)], self._dtypes[_part(name)] = shape, dtype

    @property
    def shape(self) -> Any:
        """As `EnvSpec.observation_shape`."""
        return self._shapes if len(self.asked) > 1 else self._shapes["image"]

    @property
    def dtype(self) -> Any:
        """As `EnvSpec.observation_dtype`."""
        return self._dtypes if len(self.asked) > 1 else self._dtypes["image"]

    def zeros(self, num_envs: int) -> dict[str, NDArray[Any]]:
        """Every part [E, ...]."""
        return {
            part: np.zeros((num_envs, *shape), self._dtypes[part]) for part, shape in self._shapes.items()
        }

    def write(self, parts: dict[str, NDArray[Any]], slot: int, observed: dict[str, Any], who: str) -> None:
        """One engine's observations into row `slot`. Raises EnvError, which says `who`, for a wrong shape."""
        for name, part in self._parts.items():
            value = observed[name]
            if name == INSTRUCTION:
                value = hash_words(value, length=WORDS)
            elif name == IMAGE:
                value = value.transpose(2, 0, 1)
            if value.shape != self._shapes[part]:
                raise EnvError(
                    f"{who}: the engine's {name} has shape {list(value.shape)}, "
                    f"expected {list(self._shapes[part])}; leave it out of env.dmlab.extra_observations"
                )
            parts[part][slot] = value

    def fresh(self, parts: dict[str, NDArray[Any]]) -> Observation:
        """A copy for the caller: a dict, or the image where there is nothing else."""
        if len(self.asked) == 1:
            return parts["image"].copy()
        return {part: array.copy() for part, array in parts.items()}


def _names(listed: str) -> list[str]:
    names = [name.strip() for name in listed.split(",")] if listed else []
    for index, name in enumerate(names):
        if name not in (INSTRUCTION, *NUMBERS):
            known = ", ".join((INSTRUCTION, *NUMBERS))
            raise EnvError(
                f"env.dmlab.extra_observations = {listed!r}: there is no {name!r}; besides the image, which "
                f"is always there, there are {known}"
            )
        if name in names[:index]:
            raise EnvError(f"env.dmlab.extra_observations = {listed!r}: {name} comes twice; name it once")
    return names


def _part(name: str) -> str:
    return "instruction" if name == INSTRUCTION else name.lower().replace(".", "_")
