"""What every environment owes its caller, checked on each of them alike."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.schema import EnvConfig, MemoryConfig
from envs.make import env_spec, make_vec
from envs.spec import Resumable, VecEnv, VecStep

SLOTS = 6
RANDOM = ["cartpole/full", "cartpole/masked", "memory/tmaze", "memory/copy", "memory/trace_conditioning"]
OWN = [*RANDOM, "counting/4", "counting/1"]
MORE = ["memory/tmaze_pixels", "memory/act_now", "memory/chain"]
GOES_ON = ["memory/endless_tmaze"]
"""Whose games end and whose episodes do not."""
RANDOM += MORE + GOES_ON
OWN += MORE
ALL = [*OWN, *GOES_ON, "counting/3/2"]


OPTIONS = {
    "memory/tmaze": MemoryConfig(length_min=5, length_max=15, quiet=3, num_cues=3),
    "memory/tmaze_pixels": MemoryConfig(length_min=5, length_max=15, quiet=3, num_cues=3),
    "memory/copy": MemoryConfig(symbols=4, delay=3, num_cues=5),
    "memory/chain": MemoryConfig(delay=4),
    "memory/act_now": MemoryConfig(delay=5, cued=True, num_cues=3),
    "memory/endless_tmaze": MemoryConfig(length_min=5, length_max=15, quiet=3, num_cues=3),
    "memory/trace_conditioning": MemoryConfig(pause_min=5, pause_max=9, episode_steps=40),
}


def config(env_id: str, num_envs: int = SLOTS) -> EnvConfig:
    return EnvConfig(id=env_id, num_envs=num_envs, memory=OPTIONS.get(env_id, MemoryConfig()))


def build(env_id: str, num_envs: int = SLOTS) -> VecEnv:
    return make_vec(config(env_id, num_envs))


def actions_for(env: VecEnv, steps: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, env.spec.num_actions, (steps, env.num_envs))


def play(env: VecEnv, actions: NDArray[np.int64]) -> list[VecStep]:
    return [env.step(row) for row in actions]


def assert_same(one: list[VecStep], other: list[VecStep]) -> None:
    for a, b in zip(one, other, strict=True):
        for name in ("observation", "reward", "terminated", "truncated", "game_over"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("env_id", ALL)
def test_shapes_and_types(env_id: str) -> None:
    env = build(env_id)
    assert isinstance(env, VecEnv)
    spec = env.spec
    assert spec.id == env_id and env.num_envs == SLOTS and len(spec.levels) == SLOTS
    first = env.reset(3)
    kept = [first, *(step.observation for step in play(env, actions_for(env, 5)))]
    for observation in kept:
        assert observation.shape == (SLOTS, *spec.observation_shape)
        assert observation.dtype == spec.observation_dtype
    assert not any(np.shares_memory(a, b) for i, a in enumerate(kept) for b in kept[i + 1 :])
    step = env.step(actions_for(env, 1)[0])
    assert step.reward.shape == (SLOTS,) and step.reward.dtype == np.float32
    for flag in (step.terminated, step.truncated, step.game_over):
        assert flag.shape == (SLOTS,) and flag.dtype == np.bool_
    env.close()


@pytest.mark.parametrize("env_id", ALL)
def test_spec_of_one_slot_agrees(env_id: str) -> None:
    spec, full = env_spec(config(env_id)), build(env_id).spec
    assert len(spec.levels) == 1
    for name in ("id", "observation_shape", "observation_dtype", "num_actions", "frames_per_step"):
        assert getattr(spec, name) == getattr(full, name)


@pytest.mark.parametrize("env_id", OWN)
def test_next_step_autoreset(env_id: str) -> None:
    """The step after an end ignores its action, earns nothing, and carries no flag."""
    one, other = build(env_id), build(env_id)
    one.reset(5)
    other.reset(5)
    actions = actions_for(one, 120)
    ended, ends = np.zeros(SLOTS, np.bool_), 0
    for row in actions:
        changed = np.where(ended, one.spec.num_actions - 1 - row, row)
        a, b = one.step(row), other.step(changed)
        assert_same([a], [b])
        assert not a.reward[ended].any()
        assert not (a.terminated | a.truncated | a.game_over)[ended].any()
        assert not (a.terminated & a.truncated).any()
        np.testing.assert_array_equal(a.game_over, a.terminated | a.truncated)
        ended = a.terminated | a.truncated
        ends += ended.sum()
    assert ends >= SLOTS


@pytest.mark.parametrize("env_id", ALL)
def test_same_seed_same_stream(env_id: str) -> None:
    one, other = build(env_id), build(env_id)
    actions = actions_for(one, 60)
    np.testing.assert_array_equal(one.reset(7), other.reset(7))
    assert_same(first := play(one, actions), play(other, actions))
    one.reset(7)
    assert_same(first, play(one, actions))


@pytest.mark.parametrize("env_id", RANDOM)
def test_seeds_and_slots_differ(env_id: str) -> None:
    env = build(env_id, 32)
    same_actions = np.zeros((100, 32), np.int64)

    def played(seed: int) -> NDArray[np.float32]:
        env.reset(seed)
        return np.stack([step.observation for step in play(env, same_actions)])

    first = played(7)
    assert len({first[:, slot].tobytes() for slot in range(32)}) == 32
    assert not np.array_equal(first, played(8))


@pytest.mark.parametrize("env_id", ALL)
def test_a_slot_does_not_depend_on_the_number_of_slots(env_id: str) -> None:
    few, many = build(env_id, 2), build(env_id, SLOTS)
    np.testing.assert_array_equal(few.reset(1), many.reset(1)[:2])
    for row in actions_for(many, 80):
        a, b = few.step(row[:2]), many.step(row)
        np.testing.assert_array_equal(a.observation, b.observation[:2])
        np.testing.assert_array_equal(a.reward, b.reward[:2])


@pytest.mark.parametrize("env_id", ALL)
def test_resume_is_exact(env_id: str) -> None:
    env = build(env_id)
    assert isinstance(env, Resumable)
    env.reset(2)
    actions = actions_for(env, 150)
    play(env, actions[:70])
    state = env.state_dict()
    rest = play(env, actions[70:])
    resumed = build(env_id)
    assert isinstance(resumed, Resumable)
    resumed.load_state_dict(state)
    assert_same(rest, play(resumed, actions[70:]))
    resumed.load_state_dict(state)
    assert_same(rest, play(resumed, actions[70:]))


@pytest.mark.parametrize("env_id", ALL)
def test_a_foreign_state_is_refused(env_id: str) -> None:
    env, wider = build(env_id), build(env_id, SLOTS + 1)
    assert isinstance(env, Resumable) and isinstance(wider, Resumable)
    wider.reset(0)
    with pytest.raises(ValueError, match=r"same env\.num_envs"):
        env.load_state_dict(wider.state_dict())
    with pytest.raises(ValueError, match="written by another environment"):
        env.load_state_dict({"elsewhere": np.zeros(SLOTS)})


@pytest.mark.parametrize("env_id", ALL)
def test_bad_actions_are_refused(env_id: str) -> None:
    env = build(env_id)
    with pytest.raises(ValueError, match="call reset"):
        env.step(np.zeros(SLOTS, np.int64))
    env.reset(0)
    with pytest.raises(ValueError, match=rf"shape \[{SLOTS + 1}\], expected \[{SLOTS}\]"):
        env.step(np.zeros(SLOTS + 1, np.int64))
    for bad in (-1, env.spec.num_actions):
        actions = np.zeros(SLOTS, np.int64)
        actions[2] = bad
        with pytest.raises(ValueError, match=rf"{bad}.*expected 0 to {env.spec.num_actions - 1}"):
            env.step(actions)
