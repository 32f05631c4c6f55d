"""Random numbers for many env slots at once, each slot with a stream of its own.

A slot's numbers depend on the seed and the slot alone: not on how many slots there are, nor on
when the other slots draw. The whole state is one array, so that an env can write it down.

Generator: SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class RandomStreams:
    """E independent streams. `slots` selects the streams that draw: an index array, or None for all."""

    def __init__(self, seed: int, num_slots: int) -> None:
        """`seed` is any non-negative int; each stream starts at 64 bits that SeedSequence draws from it."""
        words = np.random.SeedSequence(seed).generate_state(num_slots, np.uint64)
        self.state: NDArray[np.uint64] = words.astype(np.uint64)

    def uniform(self, slots: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """One number in [0, 1) for each selected slot, 53 random bits."""
        if slots is None:
            self.state += _GAMMA
            z = self.state
        else:
            z = self.state[slots] + _GAMMA
            self.state[slots] = z
        return _mixed(z)

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """[count, E]: what `count` calls of `uniform()` would give."""
        z = self.state + _GAMMA * np.arange(1, count + 1, dtype=np.uint64)[:, None]
        self.state = z[-1].copy()
        return _mixed(z)

    def integers(
        self, low: int, high: int | NDArray[np.int64], slots: NDArray[np.intp] | None = None
    ) -> NDArray[np.int64]:
        """One integer in [low, high) for each selected slot; `high` may differ by slot.

        The bias of scaling 53 bits to a range of n values is at most n * 2**-53.
        """
        return low + (self.uniform(slots) * (high - low)).astype(np.int64)


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.float64]:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def distinct_seeds(seed: int, count: int) -> NDArray[np.int32]:
    """`count` different seeds in [0, 2**31), for envs that take one 32-bit seed a slot.

    The first ones stay the same however many are asked for.
    """
    drawn = 0
    while True:  # SeedSequence gives ever the same sequence of words, of which repeated ones are left out
        drawn = 2 * max(drawn, count)
        words = np.random.SeedSequence(seed).generate_state(drawn) >> np.uint32(1)
        _, first = np.unique(words, return_index=True)
        if len(first) >= count:
            return words[np.sort(first)[:count]].astype(np.int32)
