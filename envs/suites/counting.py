"""Counting: an environment whose every number is known, to check how streams are handed on.

`counting/7`: slot e plays episodes of 7 + e steps. The observation is float32
[step index in the episode, episode index, slot]; action a on step index i earns `reward_of(a, i)`.
Episodes 0, 2, 4, ... of a slot end by termination, episodes 1, 3, 5, ... by truncation.

`counting/7/3`: the same with games of 3 lives. A life is an episode that ends by termination; the
game, and `game_over`, end with every third. As on the Atari, the step after a lost life is an
ordinary one for the game: its action counts and earns its reward, although to the learner it is
the dummy step between two episodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig
from envs.spec import EnvSpec, VecStep
from envs.suites.memory.array_env import ArrayEnv

NUM_ACTIONS = 3


def reward_of(action: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Reward of an action on a step index: whole numbers, so that float32 sums of them are exact."""
    return (10 * (index + 1) + action).astype(np.float32)


class Counting(ArrayEnv):
    STATE = ("_index", "_episode")

    def __init__(self, env_id: str, num_envs: int, length: int, lives: int) -> None:
        spec = EnvSpec(
            id=env_id,
            observation_shape=(3,),
            observation_dtype="float32",
            num_actions=NUM_ACTIONS,
            levels=tuple(f"{env_id}#{slot}" for slot in range(num_envs)),
        )
        super().__init__(spec, num_envs)
        self.lengths = length + np.arange(num_envs)
        """[E] steps of an episode of each slot, the dummy step not counted."""
        self._lives = lives
        self._index = np.zeros(num_envs, np.int64)
        self._episode = np.zeros(num_envs, np.int64)

    def _restart(self) -> None:
        self._episode[:] = 0

    def _start(self, slots: NDArray[np.intp]) -> None:
        self._index[slots] = 0
        self._episode[slots] += 1

    def _advance(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        reward = reward_of(actions, self._index)
        self._index += 1
        ended = self._index >= self.lengths
        by_truncation = (self._episode % 2 == 1) & (self._lives == 1)
        return reward, ended & ~by_truncation, ended & by_truncation

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        life_lost = self._ended & ((self._episode + 1) % self._lives != 0)
        index = self._index.copy()
        step = super().step(actions)
        step.reward[life_lost] = reward_of(actions, index)[life_lost]
        return step

    def _game_over(self, terminated: NDArray[np.bool_], truncated: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return (terminated | truncated) & ((self._episode + 1) % self._lives == 0)

    def _observe(self) -> NDArray[Any]:
        return np.stack([self._index, self._episode, np.arange(self.num_envs)], axis=1).astype(np.float32)


def _options(env_id: str) -> tuple[int, int] | None:
    """(length, lives) of the id, or None if it is not one of this suite."""
    numbers = env_id.split("/")[1:]
    if not 1 <= len(numbers) <= 2 or not all(n.isascii() and n.isdecimal() and int(n) >= 1 for n in numbers):
        return None
    return int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 1


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return (config.id,) if _options(config.id) else ("counting/7", "counting/7/3")


def make(config: EnvConfig, first_stream: int) -> Counting:
    options = _options(config.id)
    assert options is not None, config.id
    return Counting(config.id, config.num_envs, *options)
