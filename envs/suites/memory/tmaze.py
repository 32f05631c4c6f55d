"""`memory/tmaze`: remember a cue along a noisy corridor, then choose at its end.

The agent moves on by itself. With a corridor of L steps of which the last Q are quiet:

    step 0              the cue, one of n symbols at random, and the flag `start`
    step 1 .. L-Q       noisy zone: a random symbol each step, in the cue's own channels, and `noisy`
    step L-Q+1 .. L     quiet zone: no symbol, and `quiet`
    step L+1            `junction`: the action is the choice, +1 if it equals the cue, else -1
    step L+2            terminal: all zeros

Actions elsewhere are ignored. Where an unroll is no longer than Q + 1, no path inside an unroll
leads from the reward to the cue or to a noisy step, so that what is learned there was learned
across the unroll boundary. `quiet` = 0 makes the whole corridor noisy, as in the T-maze of Bakker
2001 ("Reinforcement learning with long short-term memory"). `quiet` = L leaves a cue, L equal steps and a
choice, as does the passive T-maze of Ni et al. 2023 ("When do transformers shine in RL?"), where the agent
also has to walk: a step that does not lead on costs 1 / L there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig, MemoryConfig
from envs.spec import EnvSpec
from envs.suites.memory.array_env import ArrayEnv

ID = "memory/tmaze"


class TMaze(ArrayEnv):
    """Observation: float32 [n + 4] = (n symbols as one-hot, start, noisy, junction, quiet).

    With `random_phase` the first episode of a slot after a reset has lost a random part of its
    beginning, and mostly its cue: leave its return out of an evaluation.
    """

    STATE = ("_time", "_length", "_cue", "_noise")

    optimal_return: float = 1.0
    """Expected return of an episode for a policy that remembers the cue."""
    memoryless_return: float
    """Expected return, 2 / n - 1, of the best policy that sees only the present observation."""

    def __init__(self, options: MemoryConfig, num_envs: int, env_id: str = ID) -> None:
        n = options.num_cues
        spec = EnvSpec(
            id=env_id,
            observation_shape=(n + 4,),
            observation_dtype="float32",
            coded=(("", 0, n + 4),),
            num_actions=n,
            levels=(env_id,) * num_envs,
        )
        super().__init__(spec, num_envs)
        self._options = options
        self.memoryless_return = 2.0 / n - 1.0
        self._time = np.zeros(num_envs, np.int64)
        self._length = np.zeros(num_envs, np.int64)
        self._cue = np.zeros(num_envs, np.int64)
        self._noise = np.zeros(num_envs, np.int64)

    def _restart(self) -> None:
        self._noise = self._random.integers(0, self._options.num_cues)
        if self._options.random_phase:
            self._time = self._random.integers(0, self._length + 2)

    def _start(self, slots: NDArray[np.intp]) -> None:
        low, high = self._options.length_min, self._options.length_max
        self._time[slots] = 0
        self._cue[slots] = self._random.integers(0, self._options.num_cues, slots)
        self._length[slots] = self._random.integers(low, high + 1, slots)

    def _advance(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        chosen = self._time == self._length + 1
        reward = np.where(chosen, np.where(actions == self._cue, 1.0, -1.0), 0.0).astype(np.float32)
        self._time += 1
        self._noise = self._random.integers(0, self._options.num_cues)
        return reward, chosen, np.zeros(self.num_envs, np.bool_)

    def _observe(self) -> NDArray[Any]:
        n, time = self._options.num_cues, self._time
        start = time == 0
        quiet_from = self._length - self._options.quiet
        noisy = ~start & (time <= quiet_from)
        observation = np.zeros((self.num_envs, n + 4), np.float32)
        observation[self._all_slots, np.where(start, self._cue, self._noise)] = start | noisy
        observation[:, n] = start
        observation[:, n + 1] = noisy
        observation[:, n + 2] = time == self._length + 1
        observation[:, n + 3] = (time > quiet_from) & (time <= self._length)
        return observation


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return (ID,)


def make(config: EnvConfig, first_stream: int) -> TMaze:
    return TMaze(config.memory, config.num_envs)
