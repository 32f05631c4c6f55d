"""Which seeds, and so which maps, the slots of an actor play."""

from __future__ import annotations

import numpy as np

MAX_SEED = 2**31 - 1
"""A prime."""
MAX_SLOTS = 2**12
"""Of one actor, of which each is a process of 200 to 400 MB."""


class LevelSeeds:
    """Seeds of each slot's episodes in [0, MAX_SEED), Python ints as the engine wants them. Those of a slot
    depend on `seed` and the slot alone.

    Without `num_maps` no two episodes of an env, in whatever slots, get the same one; else each is drawn from
    [0, num_maps), the set of all actors and runs.
    """

    def __init__(self, seed: int, num_envs: int, num_maps: int = 0) -> None:
        assert num_envs <= MAX_SLOTS, num_envs
        random = np.random.default_rng(np.random.SeedSequence(seed))
        self._offset, self._stride = int(random.integers(MAX_SEED)), int(random.integers(1, MAX_SEED))
        self._episodes = [0] * num_envs
        self._num_maps = num_maps
        slots = (np.random.SeedSequence(seed, spawn_key=(slot,)) for slot in range(num_envs))
        self._draws = [np.random.default_rng(slot) for slot in slots]

    def next(self, slot: int) -> int:
        if self._num_maps:
            return int(self._draws[slot].integers(self._num_maps))
        index = self._episodes[slot] * MAX_SLOTS + slot
        self._episodes[slot] += 1
        return (self._offset + self._stride * index) % MAX_SEED  # one-to-one, since MAX_SEED is a prime
