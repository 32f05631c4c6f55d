"""`memory/chain`: see a bit, watch the time go by, name the bit. bsuite's memory chain with a single bit.

    step 0              time 1, and the bit: -1 or +1 at random
    step t of 1 .. d    time 1 - t / (d+1), and nothing else; actions are ignored
    step d+1            time 0: the action is the choice, +1 if it names the bit (0: -1, 1: +1), else -1
    step d+2            terminal: all zeros

From bsuite (Osband et al. 2020, "Behaviour suite for reinforcement learning") come the time that is shown,
the bit's form and the rewards. Its query is left out, which with one bit always asks for that bit; and where
bsuite shows the bit at two steps, here it is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig, MemoryConfig
from envs.spec import EnvSpec
from envs.suites.memory.array_env import ArrayEnv

ID = "memory/chain"


class Chain(ArrayEnv):
    """Observation: float32 [2] = (time left, bit).

    With `random_phase` the first episode of a slot after a reset has lost a random part of its beginning, and
    mostly its bit: leave its return out of an evaluation.
    """

    STATE = ("_time", "_bit")

    optimal_return: float = 1.0
    """Expected return of an episode for a policy that remembers the bit."""
    memoryless_return: float = 0.0
    """Expected return of every policy that sees only the present observation."""

    def __init__(self, options: MemoryConfig, num_envs: int) -> None:
        spec = EnvSpec(
            id=ID,
            observation_shape=(2,),
            observation_dtype="float32",
            coded=(("", 0, 2),),
            num_actions=2,
            levels=(ID,) * num_envs,
        )
        super().__init__(spec, num_envs)
        self._random_phase = options.random_phase
        self._last = options.delay + 1
        self._time = np.zeros(num_envs, np.int64)
        self._bit = np.zeros(num_envs, np.int64)

    def _restart(self) -> None:
        if self._random_phase:
            self._time = self._random.integers(0, self._last + 1)

    def _start(self, slots: NDArray[np.intp]) -> None:
        self._time[slots] = 0
        self._bit[slots] = self._random.integers(0, 2, slots)

    def _advance(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        chosen = self._time == self._last
        reward = np.where(chosen, np.where(actions == self._bit, 1.0, -1.0), 0.0).astype(np.float32)
        self._time += 1
        return reward, chosen, np.zeros(self.num_envs, np.bool_)

    def _observe(self) -> NDArray[Any]:
        observation = np.zeros((self.num_envs, 2), np.float32)
        observation[:, 0] = np.maximum(1.0 - self._time / self._last, 0.0)
        observation[:, 1] = np.where(self._time == 0, 2 * self._bit - 1, 0)
        return observation


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return (ID,)


def make(config: EnvConfig, first_stream: int) -> Chain:
    return Chain(config.memory, config.num_envs)
