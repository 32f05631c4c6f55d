from __future__ import annotations

import numpy as np
import pytest

from configs.schema import EnvConfig
from envs.make import make_vec
from envs.spec import EnvError
from envs.suites.counting import Counting, reward_of


def build(env_id: str, num_envs: int) -> Counting:
    env = make_vec(EnvConfig(id=env_id, num_envs=num_envs))
    assert isinstance(env, Counting)
    return env


def test_every_number_is_as_described() -> None:
    env = build("counting/4", 3)
    observation = env.reset(0)
    random = np.random.default_rng(0)
    for slot in range(3):
        np.testing.assert_array_equal(observation[slot], [0, 0, slot])
    index, episode = np.zeros(3, np.int64), np.zeros(3, np.int64)
    ends: list[tuple[int, int, str]] = []
    for _ in range(60):
        actions = random.integers(0, 3, 3)
        step = env.step(actions)
        for slot in range(3):
            if index[slot] == 4 + slot:
                index[slot], reward = 0, 0.0
                episode[slot] += 1
            else:
                reward = 10 * (index[slot] + 1) + actions[slot]
                index[slot] += 1
            at_end = index[slot] == 4 + slot
            even = episode[slot] % 2 == 0
            assert step.reward[slot] == reward
            np.testing.assert_array_equal(step.observation[slot], [index[slot], episode[slot], slot])
            assert step.terminated[slot] == (at_end and even)
            assert step.truncated[slot] == (at_end and not even)
            if at_end:
                ends.append((slot, int(episode[slot]), "termination" if even else "truncation"))
    assert {slot for slot, _, _ in ends} == {0, 1, 2}
    assert {kind for _, _, kind in ends} == {"termination", "truncation"}


def test_lives_end_episodes_and_only_the_last_ends_the_game() -> None:
    env = build("counting/2/3", 1)
    env.reset(0)
    rewards, terminated, game_over = [], [], []
    for _ in range(18):
        step = env.step(np.array([1]))
        rewards.append(float(step.reward[0]))
        terminated.append(bool(step.terminated[0]))
        game_over.append(bool(step.game_over[0]))
        assert not step.truncated[0]
    # Two steps a life; the third step is the dummy, and it earns as index 2 except after a game.
    life, last = [11.0, 21.0, 31.0], [11.0, 21.0, 0.0]
    assert rewards == (life + life + last) * 2
    assert terminated == [False, True, False] * 6
    assert game_over == [False] * 7 + [True, False] + [False] * 7 + [True, False]


def test_rewards_are_exact_in_float32() -> None:
    index = np.arange(1000)
    exact = sum(10 * (i + 1) + 2 for i in range(1000))
    assert reward_of(np.full(1000, 2), index).sum(dtype=np.float32) == exact


BAD = ["counting/", "counting/0", "counting/x", "counting/3/0", "counting/3/2/1"]


@pytest.mark.parametrize("env_id", BAD)
def test_bad_ids_are_refused(env_id: str) -> None:
    with pytest.raises(EnvError, match="counting/7"):
        build(env_id, 1)
