"""The T-maze and the copy task against step-by-step descriptions, remembering policies and blind ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.schema import EnvConfig, MemoryConfig
from envs.make import make_vec
from envs.spec import VecEnv
from envs.suites.memory.copy_task import Copy
from envs.suites.memory.tmaze import TMaze

Policy = Callable[[NDArray[np.float32]], NDArray[np.int64]]


def build(task: str, num_envs: int, **options: int | bool) -> VecEnv:
    return make_vec(EnvConfig(id=f"memory/{task}", num_envs=num_envs, memory=MemoryConfig(**options)))


def tmaze(num_envs: int, **options: int | bool) -> TMaze:
    env = build("tmaze", num_envs, **options)
    assert isinstance(env, TMaze)
    return env


def copy_task(num_envs: int, **options: int | bool) -> Copy:
    env = build("copy", num_envs, **options)
    assert isinstance(env, Copy)
    return env


def returns_of(env: VecEnv, policy: Policy, steps: int, seed: int = 0) -> list[float]:
    """Returns of all whole episodes: the first of each slot may have begun in its middle."""
    observation, total = env.reset(seed), np.zeros(env.num_envs)
    first, finished = np.ones(env.num_envs, np.bool_), []
    for _ in range(steps):
        step = env.step(policy(observation))
        observation, total = step.observation, total + step.reward
        finished += total[step.game_over & ~first].tolist()
        first &= ~step.game_over
        total[step.game_over] = 0.0
    return finished


class RemembersCue:
    """Knows the T-maze: keeps the symbol that came with `start` and plays it all the time."""

    def __init__(self, num_cues: int) -> None:
        self.n, self.cue = num_cues, np.zeros(0, np.int64)

    def __call__(self, observation: NDArray[np.float32]) -> NDArray[np.int64]:
        seen = observation[:, : self.n].argmax(1)
        self.cue = np.where(observation[:, self.n] == 1, seen, self.cue if self.cue.size else seen)
        return self.cue


class RemembersSequence:
    """Knows the copy task: queues the symbols shown and names them at recall."""

    def __init__(self, num_cues: int, num_envs: int) -> None:
        self.n, self.queues = num_cues, [[] for _ in range(num_envs)]

    def __call__(self, observation: NDArray[np.float32]) -> NDArray[np.int64]:
        actions = np.zeros(len(observation), np.int64)
        for slot, row in enumerate(observation):
            if row[: self.n].any():
                self.queues[slot].append(int(row.argmax()))
            elif row[self.n + 1] and self.queues[slot]:
                actions[slot] = self.queues[slot].pop(0)
        return actions


@pytest.mark.parametrize(
    ("length_min", "length_max", "quiet"), [(20, 20, 10), (4, 9, 4), (6, 6, 0), (1, 1, 1)]
)
def test_tmaze_step_by_step(length_min: int, length_max: int, quiet: int) -> None:
    n, slots = 3, 40
    options = {"length_min": length_min, "length_max": length_max, "quiet": quiet, "num_cues": n}
    env = tmaze(slots, random_phase=False, **options)
    observation, random = env.reset(0), np.random.default_rng(0)
    cue, time, quiet_steps = np.zeros(slots, np.int64), np.zeros(slots, np.int64), np.zeros(slots)
    lengths: set[int] = set()
    noise: list[int] = []
    right = 0
    for _ in range(150):
        for slot, row in enumerate(observation):
            symbols, (start, noisy, junction, quiet_flag) = row[:n], row[n:]
            assert set(row) <= {0.0, 1.0}
            if time[slot] == 0:
                assert start == 1 and symbols.sum() == 1 and not (noisy or junction or quiet_flag)
                cue[slot], quiet_steps[slot] = symbols.argmax(), 0
            elif not row.any():
                lengths.add(int(time[slot]) - 2)
            elif noisy:
                assert symbols.sum() == 1 and not (start or junction or quiet_flag)
                noise.append(int(symbols.argmax()))
            else:
                assert not symbols.any() and not start and junction + quiet_flag == 1
                quiet_steps[slot] += quiet_flag
        at_junction = observation[:, n + 2] == 1
        chosen = random.integers(0, n, slots)
        step = env.step(chosen)
        np.testing.assert_array_equal(step.terminated, at_junction)
        assert not step.truncated.any()
        assert (quiet_steps[at_junction] == quiet).all()
        expected = np.where(at_junction, np.where(chosen == cue, 1.0, -1.0), 0.0)
        np.testing.assert_array_equal(step.reward, expected)
        right += int((expected > 0).sum())
        terminal = ~observation.any(1)
        observation, time = step.observation, np.where(terminal, 0, time + 1)
        assert not observation[at_junction].any()
    assert lengths == set(range(length_min, length_max + 1))
    assert right > 0
    if quiet < length_max:
        assert set(noise) == set(range(n))


def test_tmaze_zones_are_those_of_the_description() -> None:
    env = tmaze(1, random_phase=False, length_min=20, length_max=20, quiet=10)
    seen = [env.reset(1)[0], *(env.step(np.zeros(1, np.int64)).observation[0] for _ in range(23))]
    flags = ["".join("snjq"[i] for i in range(4) if row[2 + i]) or "-" for row in seen]
    assert "".join(flags) == "s" + "n" * 10 + "q" * 10 + "j-s"
    assert env.spec.observation_shape == (6,) and env.spec.num_actions == 2


@pytest.mark.parametrize("num_cues", [2, 4])
def test_tmaze_returns_of_a_remembering_and_of_a_blind_policy(num_cues: int) -> None:
    env = tmaze(300, num_cues=num_cues, length_min=5, length_max=12, quiet=5)
    remembered = returns_of(env, RemembersCue(num_cues), 120)
    assert len(remembered) > 1000 and set(remembered) == {env.optimal_return}
    blind = returns_of(env, lambda observation: np.zeros(300, np.int64), 200)
    error = np.std(blind) / np.sqrt(len(blind))
    assert abs(np.mean(blind) - env.memoryless_return) < 4 * error
    assert env.memoryless_return == pytest.approx(2 / num_cues - 1)


def test_tmaze_copying_the_last_noise_gains_nothing() -> None:
    """The distractors are independent of the cue: holding on to the last symbol seen does not help."""
    env = tmaze(300, length_min=8, length_max=8, quiet=3)
    last = np.zeros(300, np.int64)

    def policy(observation: NDArray[np.float32]) -> NDArray[np.int64]:
        nonlocal last
        last = np.where(observation[:, :2].any(1), observation[:, :2].argmax(1), last)
        return last

    held = returns_of(env, policy, 200)
    assert abs(np.mean(held)) < 4 / np.sqrt(len(held))


def test_tmaze_actions_before_the_junction_are_ignored() -> None:
    one, other = tmaze(8), tmaze(8)
    observation, random = one.reset(0), np.random.default_rng(0)
    other.reset(0)
    for _ in range(100):
        actions = random.integers(0, 2, 8)
        a = one.step(actions)
        b = other.step(np.where(observation[:, 4] == 1, actions, 1 - actions))
        np.testing.assert_array_equal(a.observation, b.observation)
        np.testing.assert_array_equal(a.reward, b.reward)
        observation = a.observation


def test_random_phase_spreads_slots_over_the_whole_episode() -> None:
    slots = 4400
    env = tmaze(slots, length_min=20, length_max=20, quiet=10)
    first = env.reset(0)
    starts, junctions = first[:, 2].sum(), first[:, 4].sum()
    for count in (starts, junctions):  # 22 places, 200 slots each
        assert abs(count - 200) < 4 * np.sqrt(200)
    noisy = first[first[:, 3] == 1]
    assert abs(noisy[:, 0].mean() - 0.5) < 4 * 0.5 / np.sqrt(len(noisy))
    together = tmaze(slots, random_phase=False).reset(0)
    assert together[:, 2].all()
    recall = copy_task(slots, symbols=2, delay=7, num_cues=2).reset(0)[:, 3].sum()
    assert abs(recall - slots * 2 / 11) < 4 * np.sqrt(slots * 2 / 11)


@pytest.mark.parametrize(("k", "d", "n"), [(3, 5, 4), (1, 20, 2), (2, 0, 3)])
def test_copy_step_by_step(k: int, d: int, n: int) -> None:
    env = copy_task(5, symbols=k, delay=d, num_cues=n, random_phase=False)
    assert env.spec.observation_shape == (n + 2,) and env.spec.num_actions == n
    observation, random = env.reset(0), np.random.default_rng(0)
    symbols: set[int] = set()
    for _ in range(4):
        sequence = np.zeros((5, k), np.int64)
        for time in range(2 * k + d + 1):
            shown, blank, recall = time < k, k <= time < k + d, k + d <= time < 2 * k + d
            np.testing.assert_array_equal(observation[:, :n].sum(1), float(shown))
            np.testing.assert_array_equal(observation[:, n], float(blank))
            np.testing.assert_array_equal(observation[:, n + 1], float(recall))
            if shown:
                sequence[:, time] = observation[:, :n].argmax(1)
            actions = random.integers(0, n, 5)
            step = env.step(actions)
            expected = (actions == sequence[:, time - k - d]) if recall else np.zeros(5)
            np.testing.assert_array_equal(step.reward, expected)
            assert step.terminated.all() == step.terminated.any() == (time == 2 * k + d - 1)
            observation = step.observation
        symbols |= set(sequence.ravel().tolist())
    assert symbols == set(range(n))


def test_copy_returns_of_a_remembering_and_of_a_blind_policy() -> None:
    env = copy_task(200, symbols=3, delay=4, num_cues=4)
    remembered = returns_of(env, RemembersSequence(4, 200), 100)
    assert len(remembered) > 1000 and set(remembered) == {env.optimal_return} == {3.0}
    random = np.random.default_rng(0)
    blind = returns_of(env, lambda observation: random.integers(0, 4, 200), 200)
    assert env.memoryless_return == 0.75
    assert abs(np.mean(blind) - 0.75) < 4 * np.std(blind) / np.sqrt(len(blind))
