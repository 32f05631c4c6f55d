"""`memory/tmaze_pixels`: the T-maze of `memory/tmaze`, seen as a small picture.

Symbols are drawn as stripes, each symbol at an angle of its own, in a patch above the middle. The lowest rows
show, by the place of a bright block, `start`, `noisy`, `junction` or `quiet`. With `jitter` the patch lies
somewhere else at every step, and it takes convolutions to tell one symbol from another.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig, MemoryConfig
from envs.suites.memory.tmaze import TMaze

ID = "memory/tmaze_pixels"
SIDE = 28
"""Pixels; enough for the strides of every encoder of images but `nature`."""
PATCH = 12
"""Side of a symbol."""
_PERIOD = 4.0
"""Pixels from one stripe to the next."""
_FLOOR = 4
"""Rows at the bottom that show where the agent is."""
_TOP, _LEFT = (SIDE - _FLOOR - PATCH) // 2, (SIDE - PATCH) // 2
"""Of a patch in its place."""


def stripes(num_cues: int) -> NDArray[np.uint8]:
    """[n, PATCH, PATCH]: stripes at angles of 0, pi / n, ... to the horizontal, 0 or 255."""
    angle = np.pi * np.arange(num_cues)[:, None, None] / num_cues
    row, column = np.mgrid[:PATCH, :PATCH] + 0.5
    wave = np.sin(2.0 * np.pi / _PERIOD * (row * np.cos(angle) + column * np.sin(angle)))
    return (255 * (wave > 0)).astype(np.uint8)


class PixelTMaze(TMaze):
    """Observation: uint8 [1, SIDE, SIDE]; all zeros at the terminal step."""

    STATE = (*TMaze.STATE, "_row", "_column")

    def __init__(self, options: MemoryConfig, num_envs: int) -> None:
        super().__init__(options, num_envs, ID)
        shown = {"observation_shape": (1, SIDE, SIDE), "observation_dtype": "uint8", "coded": ()}
        self.spec = dataclasses.replace(self.spec, **shown)
        self._stripes = stripes(options.num_cues)
        self._row = np.zeros(num_envs, np.int64)
        self._column = np.zeros(num_envs, np.int64)

    def _start(self, slots: NDArray[np.intp]) -> None:
        super()._start(slots)
        self._move(slots)

    def _advance(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        result = super()._advance(actions)
        self._move(self._all_slots)
        return result

    def _move(self, slots: NDArray[np.intp]) -> None:
        """The patch lies up to `jitter` pixels off its place."""
        jitter = self._options.jitter
        self._row[slots] = _TOP + self._random.integers(-jitter, jitter + 1, slots)
        self._column[slots] = _LEFT + self._random.integers(-jitter, jitter + 1, slots)

    def _observe(self) -> NDArray[Any]:
        n, seen = self._options.num_cues, super()._observe()
        image = np.zeros((self.num_envs, 1, SIDE, SIDE), np.uint8)
        slots = np.flatnonzero(seen[:, :n].any(axis=1))[:, None, None]
        rows = self._row[slots] + np.arange(PATCH)[:, None]
        columns = self._column[slots] + np.arange(PATCH)
        image[slots, 0, rows, columns] = self._stripes[seen[slots[:, 0, 0], :n].argmax(axis=1)]
        zones = np.repeat(seen[:, n:], SIDE // 4, axis=1)[:, None, :]
        image[:, 0, -_FLOOR:] = (255 * zones).astype(np.uint8)
        return image


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return (ID,)


def make(config: EnvConfig, first_stream: int) -> PixelTMaze:
    return PixelTMaze(config.memory, config.num_envs)
