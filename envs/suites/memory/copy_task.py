"""`memory/copy`: see k symbols, wait, then name them in the same order.

    step 0 .. k-1             the sequence: one of n symbols at random each step, as one-hot
    step k .. k+d-1           `blank`: nothing else, d steps
    step k+d .. 2k+d-1        `recall`: the j-th action earns 1 if it equals the j-th symbol, else 0
    step 2k+d                 terminal: all zeros

Actions elsewhere are ignored. This is the copy task of the literature on recurrent networks (as in
Arjovsky, Shah and Bengio 2016, "Unitary evolution recurrent neural networks"), with reward for a loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig, MemoryConfig
from envs.spec import EnvSpec
from envs.suites.memory.array_env import ArrayEnv

ID = "memory/copy"


class Copy(ArrayEnv):
    """Observation: float32 [n + 2] = (n symbols as one-hot, blank, recall).

    With `random_phase` the first episode of a slot after a reset has lost a random part of its
    beginning: leave its return out of an evaluation.
    """

    STATE = ("_time", "_sequence")

    optimal_return: float
    """Expected return k of an episode for a policy that remembers the sequence."""
    memoryless_return: float
    """Expected return k / n of every policy that sees only the present observation."""

    def __init__(self, options: MemoryConfig, num_envs: int) -> None:
        k, n = options.symbols, options.num_cues
        spec = EnvSpec(
            id=ID,
            observation_shape=(n + 2,),
            observation_dtype="float32",
            coded=(("", 0, n + 2),),
            num_actions=n,
            levels=(ID,) * num_envs,
        )
        super().__init__(spec, num_envs)
        self._options = options
        self._recall_from = k + options.delay
        self._length = self._recall_from + k
        self.optimal_return = float(k)
        self.memoryless_return = k / n
        self._time = np.zeros(num_envs, np.int64)
        self._sequence = np.zeros((num_envs, k), np.int64)

    def _restart(self) -> None:
        if self._options.random_phase:
            self._time = self._random.integers(0, self._length)

    def _start(self, slots: NDArray[np.intp]) -> None:
        self._time[slots] = 0
        for position in range(self._options.symbols):
            self._sequence[slots, position] = self._random.integers(0, self._options.num_cues, slots)

    def _advance(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        position = self._time - self._recall_from
        right = (position >= 0) & (actions == self._symbol_at(position))
        self._time += 1
        return right.astype(np.float32), self._time >= self._length, np.zeros(self.num_envs, np.bool_)

    def _symbol_at(self, position: NDArray[np.int64]) -> NDArray[np.int64]:
        """[E] symbols; a position outside the sequence gives some symbol without meaning."""
        inside = np.clip(position, 0, self._options.symbols - 1)
        return self._sequence[self._all_slots, inside]

    def _observe(self) -> NDArray[Any]:
        n, time = self._options.num_cues, self._time
        shown = time < self._options.symbols
        observation = np.zeros((self.num_envs, n + 2), np.float32)
        observation[self._all_slots, self._symbol_at(time)] = shown
        observation[:, n] = ~shown & (time < self._recall_from)
        observation[:, n + 1] = (time >= self._recall_from) & (time < self._length)
        return observation


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return (ID,)


def make(config: EnvConfig, first_stream: int) -> Copy:
    return Copy(config.memory, config.num_envs)
