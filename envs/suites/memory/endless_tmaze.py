"""`memory/endless_tmaze`: `memory/tmaze` in which no episode ever ends.

After the choice at the junction the next observation is the cue of the next corridor: no terminal
observation, no flag, no reset of the policy's state. Whoever remembers must learn to overwrite, since the old
cue is still there. Each corridor counts as a game, with a return of +1 or -1 (`game_over`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig, MemoryConfig
from envs.suites.memory.tmaze import TMaze

ID = "memory/endless_tmaze"


class EndlessTMaze(TMaze):
    """Observations, actions and rewards as in TMaze, but for the terminal observation, which there is not."""

    def __init__(self, options: MemoryConfig, num_envs: int) -> None:
        super().__init__(options, num_envs, ID)
        self._chosen = np.zeros(num_envs, np.bool_)

    def _advance(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        reward, self._chosen, never = super()._advance(actions)
        if self._chosen.any():
            self._start(np.flatnonzero(self._chosen))
        return reward, never, never.copy()

    def _game_over(self, terminated: NDArray[np.bool_], truncated: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return self._chosen


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return (ID,)


def make(config: EnvConfig, first_stream: int) -> EndlessTMaze:
    return EndlessTMaze(config.memory, config.num_envs)
