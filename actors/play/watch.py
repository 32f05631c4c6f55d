"""Watching a policy play: the games of one slot, observation by observation, with what it did and expected.

picture of the env, then Collector.collect (one step) -> Moment -> whoever draws it (frames.py)
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from actors.collect import Collector
from actors.inference import Decision, LocalInference
from actors.policy import Policy
from actors.rollout import map_observation
from envs.spec import Drawable, Observation, VecEnv


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One observation of a game, and the decision taken on it."""

    game: int
    """Counts from 1."""
    step: int
    """Agent steps of the game that led here."""
    observation: Observation
    """Of the one slot, without the leading dimension of slots."""
    picture: NDArray[np.uint8] | None
    """[H, W, 3], how the env draws itself; None where it does not."""
    episodic_return: float
    """Sum of the game's raw rewards up to here."""
    value: float | None
    """The policy's estimate of what is still to come, discounted, in rewards as it was trained on. None at
    the end of a game: nothing is decided there, and no policy is trained on what follows a terminal one."""
    action: int | NDArray[np.float32] | None
    """As the env takes it: a number, or [A] in [-1, 1]; None at the end of a game."""
    ended: Literal["termination", "truncation"] | None
    """How the game ended, at its last observation."""


class _Remembering(LocalInference):
    """Keeps what a rollout does not hold: the last decision's value, and the whole stack it was taken on."""

    seen: Observation
    last: Decision

    def submit(
        self, group: int, observation: Observation, reward: NDArray[np.float32], reset: NDArray[np.bool_]
    ) -> None:
        self.seen = observation
        super().submit(group, observation, reward, reset)

    def take(self, group: int) -> Decision:
        self.last = super().take(group)
        return self.last


def watch(
    env: VecEnv, policy: Policy, *, episodes: int, max_steps: int, greedy: bool, seed: int
) -> Generator[Moment, None, None]:
    """`episodes` whole games of an env of one slot, or fewer: `max_steps` agent steps end the last one early.

    A game of n steps has n + 1 moments. The same seed gives the same games. Closes the env.
    """
    assert env.num_envs == 1 and episodes >= 1 and max_steps >= 1
    inference = _Remembering(policy, None, seed=seed, greedy=greedy)
    collector = Collector([env], inference, unroll_length=1, actor_id=0, incarnation=seed, env_seed=seed)
    taken = 0
    try:
        for game in range(1, episodes + 1):
            step, episodic_return, ended = 0, 0.0, None
            over = False
            while not over:
                picture = env.draw() if isinstance(env, Drawable) else None  # before the step moves it on
                rollout = collector.collect()
                episodic_return += float(rollout.reward[0, 0])
                over = ended is not None
                action = inference.last.env_action[0]
                yield Moment(
                    game=game,
                    step=step,
                    observation=map_observation(lambda part: part[0], inference.seen),
                    picture=picture,
                    episodic_return=episodic_return,
                    value=None if over else float(inference.last.value[0]),
                    action=None if over else (action if action.ndim else int(action)),
                    ended=ended,
                )
                step += 1
                taken += not over
                if rollout.episodes and not over:
                    ended = rollout.episodes[0].ended_by
                elif taken >= max_steps:
                    return
    finally:
        collector.close()
