"""`memory/trace_conditioning`: predict an outcome from a cue that is gone by then.

A stream of trials. At a trial's start the cue is on for 4 steps; the outcome is on for 2 steps
from `interval` steps after cue onset; `pause` steps after outcome onset the next trial starts.
Both are drawn anew for each trial, uniformly from their ranges. Distractors come and go at
random, each for 4 steps. Nothing can be done (there is one action): the reward is the outcome
itself, and what is learned is the value V(x_t), a prediction of the discounted outcomes to come.

The task and its constants are those of Rafiee et al. 2023 ("From eye-blinks to state
construction", Adaptive Behavior 31(1)), its measure, the mean squared return error, included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig, MemoryConfig
from envs.spec import EnvSpec
from envs.suites.memory.array_env import ArrayEnv

ID = "memory/trace_conditioning"
CUE_STEPS = 4
OUTCOME_STEPS = 2
DISTRACTOR_STEPS = 4


class TraceConditioning(ArrayEnv):
    """Observation: float32 [2 + distractors] of zeros and ones: (outcome, cue, distractors...).

    Episodes begin with a cue and are truncated after `episode_steps`; they are never terminated.
    """

    STATE = ("_since_cue", "_interval", "_pause", "_steps", "_distractor_left")

    def __init__(self, options: MemoryConfig, num_envs: int) -> None:
        spec = EnvSpec(
            id=ID,
            observation_shape=(2 + options.distractors,),
            observation_dtype="float32",
            coded=(("", 0, 2 + options.distractors),),
            num_actions=1,
            levels=(ID,) * num_envs,
        )
        super().__init__(spec, num_envs)
        self._options = options
        self._start_probability = 0.1 / np.arange(1, options.distractors + 1)
        self._since_cue = np.zeros(num_envs, np.int64)
        self._interval = np.zeros(num_envs, np.int64)
        self._pause = np.zeros(num_envs, np.int64)
        self._steps = np.zeros(num_envs, np.int64)
        self._distractor_left = np.zeros((num_envs, options.distractors), np.int64)

    def _start(self, slots: NDArray[np.intp]) -> None:
        self._steps[slots] = 0
        self._distractor_left[slots] = 0
        self._start_trial(slots)

    def _start_trial(self, slots: NDArray[np.intp]) -> None:
        options = self._options
        self._since_cue[slots] = 0
        self._interval[slots] = self._random.integers(options.interval_min, options.interval_max + 1, slots)
        self._pause[slots] = self._random.integers(options.pause_min, options.pause_max + 1, slots)

    def _advance(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        self._steps += 1
        self._since_cue += 1
        over = np.flatnonzero(self._since_cue >= self._interval + self._pause)
        if over.size:
            self._start_trial(over)
        self._distractor_left = np.maximum(self._distractor_left - 1, 0)
        if self._options.distractors:
            starts = self._start_probability > self._random.uniforms(self._options.distractors).T
            self._distractor_left[starts & (self._distractor_left == 0)] = DISTRACTOR_STEPS
        truncated = self._steps >= self._options.episode_steps
        return self._outcome().astype(np.float32), np.zeros(self.num_envs, np.bool_), truncated

    def _outcome(self) -> NDArray[np.bool_]:
        since = self._since_cue - self._interval
        return (since >= 0) & (since < OUTCOME_STEPS)

    def _observe(self) -> NDArray[Any]:
        observation = np.empty((self.num_envs, *self.spec.observation_shape), np.float32)
        observation[:, 0] = self._outcome()
        observation[:, 1] = self._since_cue < CUE_STEPS
        observation[:, 2:] = self._distractor_left > 0
        return observation

    def best_prediction(self, discounting: float) -> NDArray[np.float64]:
        """[E] expected return from the present observation on, given all that has been observed.

        It does not use the interval and the pause of the running trial before they have shown.
        """
        waiting, after = _moments(self._options, discounting)
        since = self._since_cue - self._interval
        return np.where(
            since < 0,
            waiting[np.minimum(self._since_cue, len(waiting) - 1), 1],
            after[np.clip(since, 0, len(after) - 1), 1],
        )

    def optimal_msre(self, discounting: float) -> float:
        """Mean squared return error of `best_prediction`: what the random lengths leave unknowable."""
        weight, first, second = np.concatenate(_moments(self._options, discounting)).T
        return float(weight @ (second - first**2) / weight.sum())

    def memoryless_msre(self, discounting: float) -> float:
        """Mean squared return error of the best prediction from the present observation alone."""
        waiting, after = _moments(self._options, discounting)
        blank = np.concatenate([waiting[CUE_STEPS:], after[OUTCOME_STEPS:]])
        error, steps = 0.0, 0.0
        for alike in (waiting[:CUE_STEPS], after[:OUTCOME_STEPS], blank):
            weight, first, second = alike.T
            error += weight @ second - (weight @ first) ** 2 / weight.sum()
            steps += weight.sum()
        return float(error / steps)


def ideal_return(reward: NDArray[Any], discounting: float) -> NDArray[np.float64]:
    """G_t = sum over k >= 1 of discounting^(k-1) reward_{t+k}: what V(x_t) ought to be in hindsight.

    reward: [T+1, E], where reward[t] came with observation t, of one stretch without an end inside.
    Returns [T, E]. What lies beyond observation T is missing from the last values: leave out as many
    of them as discounting takes to become negligible.
    """
    result = np.zeros((len(reward), *reward.shape[1:]))
    for t in range(len(reward) - 2, -1, -1):
        result[t] = reward[t + 1] + discounting * result[t + 1]
    return result[:-1]


def _moments(options: MemoryConfig, discounting: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Moments of the return at every place in a trial, given what has been seen of that trial.

    Returns (waiting, after): row t of `waiting` is t steps after cue onset with the outcome still
    to come, row u of `after` is u steps after outcome onset. Columns: expected visits in a trial,
    E[G], E[G^2]. With S the interval, P the pause and G_0 the return at a cue onset,

        waiting:  G = g^(S-t-1) (1 + g) + g^(S-t+P) G_0'        after:  G = [u = 0] + g^(P-u) G_0'

    where S is uniform over its range above t, P over its range above u, and G_0' is independent.
    """
    if not 0.0 <= discounting < 1.0:
        raise ValueError(f"discounting = {discounting}: the return of a stream without end needs [0, 1)")
    g = discounting
    interval = np.arange(options.interval_min, options.interval_max + 1)
    pause = np.arange(options.pause_min, options.pause_max + 1)
    pause_1, pause_2 = np.mean(g**pause), np.mean(g ** (2 * pause))

    def waiting(t: int, first_0: float, second_0: float) -> tuple[float, float, float]:
        left = interval[interval > t] - t
        now_1 = (1 + g) * np.mean(g ** (left - 1))
        now_2 = (1 + g) ** 2 * np.mean(g ** (2 * left - 2))
        mixed = (1 + g) * np.mean(g ** (2 * left - 1)) * pause_1 * first_0
        later_1 = np.mean(g**left) * pause_1 * first_0
        later_2 = np.mean(g ** (2 * left)) * pause_2 * second_0
        return len(left) / len(interval), float(now_1 + later_1), float(now_2 + 2 * mixed + later_2)

    def after(u: int, first_0: float, second_0: float) -> tuple[float, float, float]:
        left, now = pause[pause > u] - u, float(u == 0)
        later_1, later_2 = float(np.mean(g**left)) * first_0, float(np.mean(g ** (2 * left))) * second_0
        return len(left) / len(pause), now + later_1, now + 2 * now * later_1 + later_2

    # The return at a cue onset contains that at the next: each moment is linear in itself.
    first_0 = waiting(0, 0.0, 0.0)[1] / (1 - float(np.mean(g**interval) * pause_1))
    second_0 = waiting(0, first_0, 0.0)[2] / (1 - float(np.mean(g ** (2 * interval)) * pause_2))
    return (
        np.array([waiting(t, first_0, second_0) for t in range(options.interval_max)]),
        np.array([after(u, first_0, second_0) for u in range(options.pause_max)]),
    )


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return (ID,)


def make(config: EnvConfig, first_stream: int) -> TraceConditioning:
    return TraceConditioning(config.memory, config.num_envs)
