"""Slot i of an actor plays the same stream, however many slots the actor has: every suite that runs here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from configs.schema import EnvConfig
from envs.doctor import diagnose
from envs.make import make_vec
from envs.registry import SUITES
from envs.spec import Observation, VecEnv
from envs.suites.streams import RandomStreams, distinct_seeds

STEPS = 12
SEED = 0
IDS = {
    "atari": "ALE/Breakout-v5",
    "cartpole": "cartpole/masked",
    "counting": "counting/3",
    "memory/tmaze": "memory/tmaze",
    "memory/tmaze_pixels": "memory/tmaze_pixels",
    "memory/copy": "memory/copy",
    "memory/trace_conditioning": "memory/trace_conditioning",
    "memory/endless_tmaze": "memory/endless_tmaze",
    "memory/act_now": "memory/act_now",
    "memory/chain": "memory/chain",
    "dmlab": "dmlab/rooms_watermaze",
    "procgen": "procgen/coinrun",
    "popgym": "popgym/RepeatFirstEasy",
    "minigrid": "minigrid/MultiRoom-N2-S4",
    "mujoco": "mujoco/InvertedPendulum-P",
    "vizdoom": "vizdoom/MyWayHome",
    "gymnasium": "CartPole-v1",
}


def play(env: VecEnv, actions: np.ndarray) -> list[Any]:
    """All that the first slots of `env` show, as many as `actions` [steps, slots, ...] has."""
    slots, fill = actions.shape[1], np.zeros_like(actions[:1]).repeat(env.num_envs, 1)[0]
    seen: list[Observation] = [env.reset(seed=SEED)]
    rewards = []
    for row in actions:
        step = env.step(np.concatenate([row, fill[slots : env.num_envs]]))
        seen.append(step.observation)
        rewards.append(step.reward[:slots])
    env.close()
    return [*(observation[:slots] for observation in seen), *rewards]


def test_every_suite_is_tested() -> None:
    assert set(IDS) == {suite.name for suite in SUITES}


@pytest.mark.parametrize("suite", IDS)
def test_a_slot_does_not_depend_on_how_many_there_are(suite: str) -> None:
    state = diagnose()["suites"][suite]
    if not state["runs"]:
        pytest.skip(f"{suite} does not run here: {state['missing']} is missing")
    few, many = (make_vec(EnvConfig(id=IDS[suite], num_envs=slots)) for slots in (2, 5))
    random, spec = np.random.default_rng(0), few.spec
    if spec.continuous_actions:
        actions = random.uniform(-1, 1, (STEPS, 2, spec.num_actions)).astype(np.float32)
    else:
        actions = random.integers(0, spec.num_actions, (STEPS, 2))
    for ours, theirs in zip(play(few, actions), play(many, actions), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_distinct_seeds_are_distinct_and_fit_32_bits() -> None:
    seeds = distinct_seeds(5, 200_000)  # drawn with replacement, about 9 pairs would be equal
    assert seeds.dtype == np.int32 and len(np.unique(seeds)) == 200_000 and seeds.min() >= 0
    assert not set(seeds[:4096].tolist()) & set(distinct_seeds(6, 4096).tolist())


@pytest.mark.parametrize("count", [1, 2, 7, 4096])
def test_the_seeds_and_streams_of_the_first_slots_stay(count: int) -> None:
    np.testing.assert_array_equal(distinct_seeds(5, count), distinct_seeds(5, 200_000)[:count])
    np.testing.assert_array_equal(RandomStreams(5, count).state, RandomStreams(5, 5000).state[:count])


def test_many_numbers_at_once_are_those_of_as_many_calls() -> None:
    one, many = RandomStreams(5, 4), RandomStreams(5, 4)
    expected = np.stack([one.uniform() for _ in range(7)])
    np.testing.assert_array_equal(many.uniforms(7), expected)
    np.testing.assert_array_equal(many.state, one.state)
