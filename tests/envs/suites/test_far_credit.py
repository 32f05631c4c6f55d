"""act_now, the chain and the endless T-maze against step-by-step descriptions, oracles and blind policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.schema import EnvConfig, MemoryConfig
from envs.make import make_vec
from envs.suites.memory.act_now import ActNow
from envs.suites.memory.chain import Chain
from envs.suites.memory.endless_tmaze import EndlessTMaze
from tests.envs.suites.test_memory import RemembersCue

Policy = Callable[[NDArray[np.float32]], NDArray[np.int64]]


Env = TypeVar("Env")


def build(kind: type[Env], task: str, num_envs: int, **options: int | bool) -> Env:
    env = make_vec(EnvConfig(id=f"memory/{task}", num_envs=num_envs, memory=MemoryConfig(**options)))
    assert isinstance(env, kind)
    return env


def act_now(num_envs: int, **options: int | bool) -> ActNow:
    return build(ActNow, "act_now", num_envs, **options)


def returns_of(env: ActNow | Chain | EndlessTMaze, policy: Policy, steps: int) -> list[float]:
    """Returns of the games of all slots, one after the other, without the first of each."""
    observation = env.reset(0)
    total, played, finished = [0.0] * env.num_envs, [0] * env.num_envs, []
    for _ in range(steps):
        step = env.step(policy(observation))
        for slot in range(env.num_envs):
            total[slot] += float(step.reward[slot])
            if step.game_over[slot]:
                finished += [total[slot]] if played[slot] else []
                total[slot], played[slot] = 0.0, played[slot] + 1
        observation = step.observation
    return finished


@pytest.mark.parametrize("cued", [False, True])
@pytest.mark.parametrize("delay", [0, 1, 6])
def test_act_now_step_by_step(delay: int, cued: bool) -> None:
    n, slots = 3, 30
    env = act_now(slots, delay=delay, num_cues=n, cued=cued, random_phase=False)
    symbols = n if cued else 0
    assert env.spec.observation_shape == (symbols + 3,) and env.spec.num_actions == n
    observation, random = env.reset(0), np.random.default_rng(0)
    cues, outcomes = set(), set()
    for _ in range(5):
        for time in range(delay + 2):
            actions = random.integers(0, n, slots)
            flags = [time == 0, time == 1 <= delay, 2 <= time <= delay]
            assert (observation[:, symbols:] == flags).all()
            assert (observation[:, :symbols].sum(1) == (time == 0 and cued)).all()
            if time == 0:
                cue = observation[:, :symbols].argmax(1) if cued else np.zeros(slots, np.int64)
                right = [int(a) == int(c) for a, c in zip(actions, cue, strict=True)]
                cues |= set(cue.tolist())
            step = env.step(actions)
            paid = [(1.0 if r else -1.0) if time == delay else 0.0 for r in right]
            np.testing.assert_array_equal(step.reward, paid)
            np.testing.assert_array_equal(step.terminated, [time == delay] * slots)
            assert not step.truncated.any()
            outcomes |= set(step.reward.tolist())
            observation = step.observation
    assert cues == (set(range(n)) if cued else {0}) and outcomes >= {-1.0, 1.0}


@pytest.mark.parametrize(("cued", "n"), [(False, 2), (False, 3), (True, 4)])
def test_act_now_is_played_without_memory_but_not_blindly(cued: bool, n: int) -> None:
    env = act_now(200, delay=5, num_cues=n, cued=cued)
    seen = returns_of(env, lambda o: o[:, :n].argmax(1) if cued else np.zeros(200, np.int64), 80)
    assert len(seen) > 1000 and set(seen) == {env.optimal_return}
    random = np.random.default_rng(0)
    blind = returns_of(env, lambda o: random.integers(0, n, 200), 80)
    assert abs(np.mean(blind) - env.random_return) < 4 * np.std(blind) / np.sqrt(len(blind))
    assert env.random_return == pytest.approx(2 / n - 1)


def test_act_now_shows_nothing_of_what_was_done() -> None:
    one, other = act_now(20, delay=9), act_now(20, delay=9)
    one.reset(3)
    other.reset(3)
    paid = 0
    for _ in range(40):
        a, b = one.step(np.zeros(20, np.int64)), other.step(np.ones(20, np.int64))
        np.testing.assert_array_equal(a.observation, b.observation)
        paid += int((a.reward - b.reward == 2).sum())
    assert paid > 40


@pytest.mark.parametrize("delay", [0, 1, 7])
def test_chain_step_by_step(delay: int) -> None:
    slots = 30
    env = build(Chain, "chain", slots, delay=delay, random_phase=False)
    observation, random = env.reset(0), np.random.default_rng(0)
    bits = set()
    for _ in range(5):
        for time in range(delay + 3):
            left = 1.0 - time / (delay + 1) if time <= delay + 1 else 0.0
            np.testing.assert_allclose(observation[:, 0], [left] * slots, atol=1e-6)
            if time == 0:
                bit = observation[:, 1].copy()
                bits |= set(bit.tolist())
            else:
                assert not observation[:, 1].any()
            actions = random.integers(0, 2, slots)
            step = env.step(actions)
            chosen = time == delay + 1
            named = [1.0 if (a == 1) == (b == 1.0) else -1.0 for a, b in zip(actions, bit, strict=True)]
            np.testing.assert_array_equal(step.reward, named if chosen else [0.0] * slots)
            np.testing.assert_array_equal(step.terminated, [chosen] * slots)
            assert not step.truncated.any()
            observation = step.observation
    assert bits == {-1.0, 1.0}


def test_chain_returns_of_a_remembering_and_of_a_blind_policy() -> None:
    env, bit = build(Chain, "chain", 200, delay=6), np.zeros(200)

    def remembers(observation: NDArray[np.float32]) -> NDArray[np.int64]:
        nonlocal bit
        bit = np.where(observation[:, 1] != 0, observation[:, 1], bit)
        return (bit > 0).astype(np.int64)

    remembered = returns_of(env, remembers, 120)
    assert len(remembered) > 1000 and set(remembered) == {env.optimal_return}
    blind = returns_of(env, lambda o: np.ones(200, np.int64), 120)
    assert abs(np.mean(blind) - env.memoryless_return) < 4 * np.std(blind) / np.sqrt(len(blind))


def endless(num_envs: int, **options: int | bool) -> EndlessTMaze:
    return build(EndlessTMaze, "endless_tmaze", num_envs, **options)


def test_endless_tmaze_step_by_step() -> None:
    """After the junction comes the next cue, and neither flag is ever up."""
    slots, n = 40, 3
    env = endless(slots, length_min=4, length_max=9, quiet=2, num_cues=n, random_phase=False)
    observation, random = env.reset(0), np.random.default_rng(0)
    cue, walked, lengths, cues = [-1] * slots, [0] * slots, set(), set()
    for _ in range(200):
        actions = random.integers(0, n, slots)
        step = env.step(actions)
        assert not (step.terminated.any() or step.truncated.any())
        for slot, row in enumerate(observation):
            start, noisy, junction, quiet = row[n:]
            assert start + noisy + junction + quiet == 1 and row[:n].sum() == start + noisy
            if start:
                cue[slot], walked[slot] = int(row[:n].argmax()), 0
                cues.add(cue[slot])
            walked[slot] += int(noisy + quiet)
            assert step.game_over[slot] == (junction == 1)
            reward = (1.0 if actions[slot] == cue[slot] else -1.0) if junction else 0.0
            assert step.reward[slot] == reward
            if junction:
                lengths.add(walked[slot])
                assert step.observation[slot, n] == 1
        observation = step.observation
    assert lengths == set(range(4, 10)) and cues == set(range(n))


def test_endless_tmaze_returns_of_a_remembering_and_of_a_blind_policy() -> None:
    env = endless(200, length_min=5, length_max=8, quiet=3)
    remembered = returns_of(env, RemembersCue(2), 100)
    assert len(remembered) > 1000 and set(remembered) == {env.optimal_return}
    first = np.full(200, -1)

    def never_overwrites(observation: NDArray[np.float32]) -> NDArray[np.int64]:
        nonlocal first
        first = np.where((observation[:, 2] == 1) & (first < 0), observation[:, :2].argmax(1), first)
        return np.maximum(first, 0)

    for policy in (lambda o: np.zeros(200, np.int64), never_overwrites):
        blind = returns_of(env, policy, 100)
        assert abs(np.mean(blind) - env.memoryless_return) < 4 * np.std(blind) / np.sqrt(len(blind))
