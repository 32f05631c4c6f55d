"""A stack that travelled frame by frame is the env's own again, bit for bit: on the real games."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from actors.collect import Collector
from actors.frame_stack import observations, stack_frames
from actors.inference import LocalInference
from actors.policy import Policy
from actors.rollout import Rollout
from configs.schema import AtariConfig, EnvConfig, PolicyConfig
from envs.make import make_vec
from envs.spec import VecEnv, VecStep
from learner.batcher import Batcher
from tests.learner.batches import config

E = 3


class _Recording:
    """A real env, and all that it showed."""

    def __init__(self, env: VecEnv) -> None:
        self.spec, self.num_envs, self._env = env.spec, env.num_envs, env
        self.shown: list[NDArray[np.uint8]] = []
        self.steps: list[VecStep] = []

    def reset(self, seed: int) -> NDArray[np.uint8]:
        self.shown.append(self._env.reset(seed).copy())
        return self.shown[0]

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        self.steps.append(self._env.step(actions))
        self.shown.append(self.steps[-1].observation.copy())
        return self.steps[-1]

    def close(self) -> None:
        self._env.close()


def _played(env_config: EnvConfig, T: int, steps: int) -> tuple[_Recording, list[Rollout]]:
    env = _Recording(make_vec(env_config))
    torch.manual_seed(0)
    policy = Policy(env.spec, PolicyConfig(encoder="shallow", features=4, core="none"))
    inference = LocalInference(policy, None, seed=1)
    collector = Collector([env], inference, unroll_length=T, actor_id=0, incarnation=7, env_seed=5)
    rollouts = [collector.collect() for _ in range(steps // T)]
    collector.close()
    return env, rollouts


SMALL = AtariConfig(size=20)
GAMES: dict[str, dict[str, Any]] = {
    "lives, sticky actions and no-ops": {"life_loss_ends_episode": True, "sticky_actions": 0.25},
    "cut off": {"max_episode_frames": 44, "noop_max": 3},
    "a game of three steps": {"max_episode_frames": 8, "noop_max": 0, "fire_reset": False},
    "colour": {"atari": dataclasses.replace(SMALL, frame_stack=3, colour=True), "max_episode_frames": 100},
    "two frames": {"atari": dataclasses.replace(SMALL, frame_stack=2), "life_loss_ends_episode": True},
    "six frames": {"atari": dataclasses.replace(SMALL, frame_stack=6), "max_episode_frames": 60},
}


@pytest.mark.parametrize("T", [1, 5, 20])
@pytest.mark.parametrize("name", GAMES)
def test_what_was_seen_comes_out_of_the_rollouts_again(name: str, T: int) -> None:
    options = {"atari": SMALL} | GAMES[name]
    env, rollouts = _played(EnvConfig(id="ALE/Breakout-v5", num_envs=E, **options), T, 280)
    assert sum(step.game_over.sum() for step in env.steps) >= 2, "no game ended, nothing was shown"
    stack = env.spec.frames_stacked
    for index, rollout in enumerate(rollouts):
        assert rollout.observation.shape[:2] == (stack - 1 + T + 1, E)
        expected = np.stack(env.shown[index * T : (index + 1) * T + 1])
        np.testing.assert_array_equal(observations(rollout).numpy(), expected)
        np.testing.assert_array_equal(observations(rollout.columns(1, E)).numpy(), expected[:, 1:])
    lives = sum((step.terminated & ~step.game_over).sum() for step in env.steps)
    assert bool(lives) == options.get("life_loss_ends_episode", False)


def test_the_batch_holds_the_stacks_channels_last_and_the_next_one_others() -> None:
    T = 5
    env, rollouts = _played(EnvConfig(id="ALE/Breakout-v5", num_envs=E, atari=SMALL), T, 4 * T)
    batcher = Batcher(config(unroll_length=T, batch_size=E), torch.device("cpu"))
    for index, rollout in enumerate(rollouts):
        batcher.add(rollout, 0)
        batch = batcher.next_batch()
        assert batch is not None
        expected = np.stack(env.shown[index * T : (index + 1) * T + 1])
        np.testing.assert_array_equal(batch.observation.numpy(), expected)
        images = batch.observation.flatten(0, 1)
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_a_frame_of_an_earlier_game_is_shown_as_zeros() -> None:
    """By the definition, frame by frame, over ends that follow each other closely."""
    rng = np.random.default_rng(3)
    for S, T, c in ((4, 9, 1), (3, 7, 3), (6, 2, 1), (2, 1, 1)):
        frames = rng.integers(1, 256, (S + T, 5, c, 3, 2)).astype(np.uint8)
        over = rng.random((T + 1, 5)) < 0.3
        found = stack_frames(torch.from_numpy(frames), torch.from_numpy(over)).numpy()
        for t, b, k in np.ndindex(T + 1, 5, S):
            source = t - (S - 1) + k  # the step that the k-th oldest frame is of; below 0 as it was sent
            ended_since = over[max(source, 0) : t, b].any()
            expected = np.zeros_like(frames[0, 0]) if ended_since else frames[S - 1 + source, b]
            np.testing.assert_array_equal(found[t, b, k * c : (k + 1) * c], expected)


def test_frames_without_a_flag_and_a_flag_of_another_length_are_refused() -> None:
    _, (rollout, *_) = _played(EnvConfig(id="ALE/Breakout-v5", num_envs=E, atari=SMALL), 5, 5)
    rollout.validate()
    assert rollout.game_over is not None
    with pytest.raises(
        ValueError, match=r"rollout.observation has leading shape \[9, 3\], expected \[6, 3\]"
    ):
        dataclasses.replace(rollout, game_over=None).validate()
    with pytest.raises(ValueError, match=r"rollout.game_over is bool\[5, 3\], expected bool\[6, 3\]"):
        dataclasses.replace(rollout, game_over=rollout.game_over[1:]).validate()
