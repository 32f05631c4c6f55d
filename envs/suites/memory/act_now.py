"""`memory/act_now`: act at the first step, be paid much later.

    step 0              `start`: the action decides; with `cued`, one of n symbols at random is shown too
    step 1              `acted`: nothing else; from here on actions are ignored
    step 2 .. d         `wait`: nothing else
    step d+1            terminal: all zeros; on arriving here +1 if the first action was right, else -1

Right is action 0, or with `cued` the action of the symbol's number: a policy without memory can choose it.
What has to be remembered is needed for credit alone: between the action and its reward lie d steps that show
nothing, so that a value which is to foretell the reward must remember the action
(`--policy.previous-action`), and a return that is cut on the way is only as good as that value. The actions
of the d steps are noise in the very input that told the first one; `acted` says which one counts.

Two actions, no cue and a reward at the 128th step are the task of PufferLib's pull request 478.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig, MemoryConfig
from envs.spec import EnvSpec
from envs.suites.memory.array_env import ArrayEnv

ID = "memory/act_now"


class ActNow(ArrayEnv):
    """Observation: float32 [3] = (start, acted, wait); with `cued` [n + 3], n symbols as one-hot before them.

    With `random_phase` the first episode of a slot after a reset has mostly lost its beginning, and ends with
    a reward that nobody chose: leave its return out of an evaluation.
    """

    STATE = ("_time", "_cue", "_right")

    optimal_return: float = 1.0
    """Expected return of an episode for the best policy, which needs no memory."""
    random_return: float
    """2 / n - 1: of uniform actions."""

    def __init__(self, options: MemoryConfig, num_envs: int) -> None:
        n = options.num_cues
        self._symbols = n if options.cued else 0
        spec = EnvSpec(
            id=ID,
            observation_shape=(self._symbols + 3,),
            observation_dtype="float32",
            coded=(("", 0, self._symbols + 3),),
            num_actions=n,
            levels=(ID,) * num_envs,
        )
        super().__init__(spec, num_envs)
        self._options = options
        self._length = options.delay + 1
        self.random_return = 2.0 / n - 1.0
        self._time = np.zeros(num_envs, np.int64)
        self._cue = np.zeros(num_envs, np.int64)
        self._right = np.zeros(num_envs, np.bool_)

    def _restart(self) -> None:
        if self._options.random_phase:
            self._time = self._random.integers(0, self._length)
            self._right = self._random.integers(0, self._options.num_cues) == 0

    def _start(self, slots: NDArray[np.intp]) -> None:
        self._time[slots] = 0
        if self._symbols:
            self._cue[slots] = self._random.integers(0, self._symbols, slots)

    def _advance(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        self._right = np.where(self._time == 0, actions == self._cue, self._right)
        self._time += 1
        over = self._time >= self._length
        reward = np.where(over, np.where(self._right, 1.0, -1.0), 0.0).astype(np.float32)
        return reward, over, np.zeros(self.num_envs, np.bool_)

    def _observe(self) -> NDArray[Any]:
        time, start = self._time, self._time == 0
        observation = np.zeros((self.num_envs, self._symbols + 3), np.float32)
        if self._symbols:
            observation[self._all_slots, self._cue] = start
        observation[:, -3] = start
        observation[:, -2] = (time == 1) & (time < self._length)
        observation[:, -1] = (time > 1) & (time < self._length)
        return observation


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return (ID,)


def make(config: EnvConfig, first_stream: int) -> ActNow:
    return ActNow(config.memory, config.num_envs)
