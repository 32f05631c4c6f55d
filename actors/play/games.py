"""Whole games of several envs at once by one policy: stepped, counted, and left when they are played.

    envs still at play -> observations, side by side -> Inference -> actions -> each env its own

Every slot plays its own quota of games, fixed beforehand. Counting the first games to finish instead would
favour short ones. An env whose slots have all played theirs is closed: no step is spent on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.inference import Inference
from actors.play.prediction import ReturnError
from actors.rollout import EpisodeStats, map_observation
from envs.spec import Observation, VecEnv, VecStep
from envs.suites.streams import distinct_seeds

IDLE_STEPS = 5000
"""Agent steps without any reward, in a row, after which a game is said to stand still: 5 minutes of Atari."""


class Games:
    """Games under way. Closes the envs, at the latest in `close`."""

    def __init__(
        self,
        envs: Sequence[VecEnv],
        inference: Inference,
        quota: Sequence[int],
        *,
        seed: int,
        max_steps: int,
        error: ReturnError | None = None,
    ) -> None:
        """`quota`: games of each slot, at least one; slots are counted through all envs. `max_steps`: agent
        steps after which a game is cut off; its slot then plays no other. `error`: where the values are
        compared with the returns of these games."""
        self._error = error
        self._envs, self._inference, self._max_steps = list(envs), inference, max_steps
        self._levels = [level for env in envs for level in env.spec.levels or (env.spec.id,) * env.num_envs]
        self._quota = np.array(quota, np.int64)
        slots = len(self._quota)
        assert slots == len(self._levels) and self._quota.min() >= 1
        self._slot = np.arange(slots)
        """Number of each slot that is still stepped; the arrays below have an entry for each."""
        seeds = distinct_seeds(seed, len(envs)).tolist()
        try:
            first = [env.reset(seed=its) for env, its in zip(self._envs, seeds, strict=True)]
        except BaseException:
            self.close()
            raise
        self._observation = _side_by_side(first)
        self._reward = np.zeros(slots, np.float32)
        self._reset = np.ones(slots, np.bool_)
        self._ended = np.zeros(slots, np.bool_)
        """An episode, at the observation; so the next one resets."""
        self._group = inference.open(slots)
        self._return = np.zeros(slots, np.float64)
        self._length = np.zeros(slots, np.int64)
        self._since_reward = np.zeros(slots, np.int64)
        self._longest_idle = np.zeros(slots, np.int64)
        self.played: list[EpisodeStats] = []
        self.cut = 0
        """Of these: games that `max_steps` cut off."""
        self.idle = 0
        """Of these: games that stood still for `IDLE_STEPS` or longer."""
        self.unplayed = 0
        """Games that did not begin, since one before them in their slot was cut off."""
        self.steps = 0
        """Agent steps, of all slots."""

    @property
    def done(self) -> bool:
        return not self._quota.any()

    def step(self) -> None:
        """One step of every env that is still at play."""
        self._inference.submit(self._group, self._observation, self._reward, self._reset)
        decision = self._inference.take(self._group)
        steps = self._step_envs(decision.env_action)
        self._observation = _side_by_side([step.observation for step in steps])
        self._reward = np.concatenate([step.reward for step in steps])
        truncated = np.concatenate([step.truncated for step in steps])
        over = np.concatenate([step.game_over for step in steps])
        terminated = np.concatenate([step.terminated for step in steps])
        ended = terminated | truncated
        owing = np.flatnonzero(~self._ended & (self._quota[self._slot] > 0))
        if self._error is not None:
            slots = self._slot[owing].tolist()
            self._error.add(slots, decision.value[owing].tolist(), self._reward[owing].tolist())
        self._reset = self._ended
        self._ended = ended
        # The step that only starts a new game is no decision, so it does not count.
        self._length += ~(self._reset & (self._length == 0))
        self._return += self._reward
        self._since_reward = np.where(self._reward == 0, self._since_reward + 1, 0)
        self._longest_idle = np.maximum(self._longest_idle, self._since_reward)
        self.steps += len(self._slot)
        too_long = ~over & (self._length >= self._max_steps)
        if self._error is not None:
            for index in owing[(ended | too_long)[owing]].tolist():
                self._error.end(int(self._slot[index]), bool(terminated[index]))
        for index in np.flatnonzero(over | too_long).tolist():
            self._end(index, bool(truncated[index]), bool(too_long[index]))
        self._leave()

    def _step_envs(self, actions: NDArray[Any]) -> list[VecStep]:
        ends = np.cumsum([env.num_envs for env in self._envs])
        own = np.split(actions, ends[:-1])
        return [env.step(its) for env, its in zip(self._envs, own, strict=True)]

    def _end(self, index: int, truncated: bool, too_long: bool) -> None:
        """A game ended, or is cut off: counted, if its slot still owes one."""
        slot = int(self._slot[index])
        if self._quota[slot] > 0:
            self.played.append(
                EpisodeStats(
                    episodic_return=float(self._return[index]),
                    episodic_length=int(self._length[index]),
                    level=self._levels[slot],
                    slot=slot,
                    ended_by="truncation" if truncated or too_long else "termination",
                )
            )
            self.idle += int(self._longest_idle[index] >= IDLE_STEPS)
            self._quota[slot] -= 1
            if too_long:
                self.cut += 1
                self.unplayed += int(self._quota[slot])
                self._quota[slot] = 0
        for book in (self._return, self._length, self._since_reward, self._longest_idle):
            book[index] = 0

    def _leave(self) -> None:
        """Closes the envs that owe no game any more, and forgets their slots."""
        sizes = [env.num_envs for env in self._envs]
        ends = np.cumsum(sizes)[:-1]
        staying = [bool(self._quota[slots].any()) for slots in np.split(self._slot, ends)]
        if all(staying):
            return
        for env, stays in zip(self._envs, staying, strict=True):
            if not stays:
                env.close()
        self._envs = [env for env, stays in zip(self._envs, staying, strict=True) if stays]
        keep = np.repeat(np.array(staying), sizes)
        self._slot, self._reward = self._slot[keep], self._reward[keep]
        self._reset, self._ended = self._reset[keep], self._ended[keep]
        self._return, self._length = self._return[keep], self._length[keep]
        self._since_reward, self._longest_idle = self._since_reward[keep], self._longest_idle[keep]
        self._inference.keep(self._group, keep)
        self._observation = map_observation(lambda part: part[keep], self._observation)

    def close(self) -> None:
        for env in self._envs:
            env.close()
        self._envs = []


def _side_by_side(observations: Sequence[Observation]) -> Observation:
    return map_observation(lambda *parts: np.concatenate(parts), *observations)
