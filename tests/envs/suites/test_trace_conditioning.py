"""Trace conditioning: its timing, and its analytic errors against simulated ones."""

from __future__ import annotations

import numpy as np
import pytest

from configs.schema import EnvConfig, MemoryConfig
from envs.make import make_vec
from envs.suites.memory.trace_conditioning import TraceConditioning, ideal_return


def conditioning(num_envs: int, **options: int | bool) -> TraceConditioning:
    memory = MemoryConfig(**options)
    env = make_vec(EnvConfig(id="memory/trace_conditioning", num_envs=num_envs, memory=memory))
    assert isinstance(env, TraceConditioning)
    return env


def test_trace_conditioning_follows_its_timing() -> None:
    options = {"interval_min": 5, "interval_max": 8, "pause_min": 9, "pause_max": 12, "distractors": 3}
    env = conditioning(50, episode_steps=500, **options)
    seen, rewards = [env.reset(0)], [np.zeros(50)]
    for count in range(1, 501):
        step = env.step(np.zeros(50, np.int64))
        seen.append(step.observation)
        rewards.append(step.reward)
        assert not step.terminated.any() and step.truncated.all() == (count == 500)
    observation = np.stack(seen)
    assert set(np.unique(observation)) == {0.0, 1.0}
    np.testing.assert_array_equal(np.stack(rewards)[1:], observation[1:, :, 0])
    intervals, pauses = [], []
    for slot in range(50):
        outcome, cue = observation[:, slot, 0], observation[:, slot, 1]
        on_cue = np.flatnonzero(np.diff(cue, prepend=0) == 1)
        on_outcome = np.flatnonzero(np.diff(outcome, prepend=0) == 1)
        assert on_cue[0] == 0
        assert all(cue[t : t + 5].tolist() == [1, 1, 1, 1, 0] for t in on_cue[:-1])
        assert all(outcome[t : t + 3].tolist() == [1, 1, 0] for t in on_outcome[:-1])
        pairs = min(len(on_cue), len(on_outcome)) - 1
        intervals += (on_outcome[:pairs] - on_cue[:pairs]).tolist()
        pauses += (on_cue[1 : pairs + 1] - on_outcome[:pairs]).tolist()
    assert set(intervals) == {5, 6, 7, 8} and set(pauses) == {9, 10, 11, 12}
    assert abs(np.mean(intervals) - 6.5) < 4 * np.std(intervals) / np.sqrt(len(intervals))
    # Distractor d: 4 steps on, then on average 10 d steps until it starts again (the first may be at once).
    for d in (1, 2, 3):
        share = observation[100:, :, 1 + d].mean()
        assert abs(share - 4 / (4 + 10 * d - 1)) < 0.02
    assert not observation[0, :, 2:].any()


@pytest.mark.parametrize("discounting", [0.9, 0.98])
def test_trace_conditioning_errors_are_the_analytic_ones(discounting: float) -> None:
    options = {"interval_min": 7, "interval_max": 13, "pause_min": 20, "pause_max": 30, "distractors": 0}
    env = conditioning(400, episode_steps=10**6, **options)
    env.reset(0)
    tail = 500 if discounting > 0.95 else 150
    rewards, predictions, seen = [np.zeros(400)], [env.best_prediction(discounting)], []
    for _ in range(1000 + tail):
        step = env.step(np.zeros(400, np.int64))
        rewards.append(step.reward)
        predictions.append(env.best_prediction(discounting))
        seen.append(step.observation)
    stretch = slice(300, 1000)  # the start is not yet mixed, the tail misses what lies beyond
    target = ideal_return(np.stack(rewards), discounting)[stretch]
    error = (np.stack(predictions)[:-1][stretch] - target) ** 2
    assert error.mean() == pytest.approx(env.optimal_msre(discounting), rel=0.03)
    observed = np.stack([np.zeros_like(seen[0]), *seen])[:-1][stretch]
    alike = (observed[..., 0] * 2 + observed[..., 1]).astype(int)
    blind = np.array([target[alike == kind].mean() for kind in range(3)])[alike]
    assert ((blind - target) ** 2).mean() == pytest.approx(env.memoryless_msre(discounting), rel=0.03)
    assert env.optimal_msre(discounting) < 0.7 * env.memoryless_msre(discounting)


def test_without_chance_the_best_prediction_is_the_ideal_return() -> None:
    env = conditioning(3, interval_min=6, interval_max=6, pause_min=10, pause_max=10, episode_steps=900)
    env.reset(0)
    rewards, predictions = [np.zeros(3)], [env.best_prediction(0.9)]
    for _ in range(600):
        rewards.append(env.step(np.zeros(3, np.int64)).reward)
        predictions.append(env.best_prediction(0.9))
    target = ideal_return(np.stack(rewards), 0.9)
    np.testing.assert_allclose(np.stack(predictions)[:200], target[:200], atol=1e-12)
    assert env.optimal_msre(0.9) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match=r"discounting = 1\.0"):
        env.best_prediction(1.0)


def test_ideal_return_is_the_discounted_sum_of_what_comes_later() -> None:
    reward = np.array([[5.0], [1.0], [0.0], [2.0]])
    expected = [[1 + 0.25 * 2], [0.5 * 2], [2.0]]
    np.testing.assert_allclose(ideal_return(reward, 0.5), expected)
