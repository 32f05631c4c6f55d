from __future__ import annotations

import gymnasium
import numpy as np

from configs.schema import EnvConfig
from envs.make import make_vec
from envs.suites.cartpole import MAX_ANGLE, MAX_POSITION, MAX_STEPS, CartPole, physics


def build(env_id: str, num_envs: int) -> CartPole:
    env = make_vec(EnvConfig(id=env_id, num_envs=num_envs))
    assert isinstance(env, CartPole)
    return env


def balance(observation: np.ndarray) -> np.ndarray:
    """A controller that keeps the pole up for good: pushes to where the pole falls."""
    position, velocity, angle, spin = observation.T
    return (angle + 0.25 * spin + 0.02 * position + 0.05 * velocity > 0).astype(np.int64)


def test_equals_gymnasium_step_by_step() -> None:
    slots, steps = 16, 200
    env = build("cartpole/full", slots)
    env.reset(0)
    theirs = [gymnasium.make("CartPole-v1").unwrapped for _ in range(slots)]
    state = env.state_dict()["physics"]
    for slot, other in enumerate(theirs):
        other.reset(seed=slot)
        other.state = state[slot].copy()  # type: ignore[attr-defined]
    random, ends = np.random.default_rng(1), 0
    alive = np.ones(slots, np.bool_)
    for _ in range(steps):
        actions = random.integers(0, 2, slots)
        step = env.step(actions)
        for slot in np.flatnonzero(alive):
            observation, reward, terminated, _, _ = theirs[slot].step(int(actions[slot]))
            # The sine of an array and of a scalar may differ in the last of 53 bits.
            np.testing.assert_allclose(step.observation[slot], observation, rtol=1e-6, atol=1e-7)
            assert step.reward[slot] == reward and step.terminated[slot] == terminated
            ends += terminated
        alive &= ~step.terminated
        if not alive.any():
            break
    assert ends == slots


def test_one_step_of_physics_equals_gymnasium_to_the_last_digits() -> None:
    random = np.random.default_rng(2)
    state = random.uniform(-1, 1, (50, 4)) * [2.0, 3.0, 0.2, 3.0]
    actions = random.integers(0, 2, 50)
    other = gymnasium.make("CartPole-v1").unwrapped
    for before, action, after in zip(state, actions, physics(state, actions), strict=True):
        other.reset(seed=0)
        other.state = before.copy()  # type: ignore[attr-defined]
        other.step(int(action))
        np.testing.assert_allclose(after, np.asarray(other.state), rtol=0, atol=1e-14)  # type: ignore[attr-defined]


def test_limits_are_gymnasiums() -> None:
    other = gymnasium.make("CartPole-v1")
    assert other.spec is not None and other.spec.max_episode_steps == MAX_STEPS
    assert other.unwrapped.x_threshold == MAX_POSITION  # type: ignore[attr-defined]
    assert other.unwrapped.theta_threshold_radians == MAX_ANGLE  # type: ignore[attr-defined]


def test_masked_shows_position_and_angle_only() -> None:
    full, masked = build("cartpole/full", 4), build("cartpole/masked", 4)
    np.testing.assert_array_equal(full.reset(3)[:, [0, 2]], masked.reset(3))
    for row in np.random.default_rng(0).integers(0, 2, (40, 4)):
        np.testing.assert_array_equal(full.step(row).observation[:, [0, 2]], masked.step(row).observation)


def test_starts_are_uniform_within_five_hundredths() -> None:
    first = build("cartpole/full", 20_000).reset(0)
    assert np.abs(first).max() <= 0.05
    np.testing.assert_allclose(first.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(first.std(0), 0.1 / np.sqrt(12), rtol=0.02)


def test_an_upright_pole_is_truncated_after_500_steps_not_terminated() -> None:
    slots = 3
    env = build("cartpole/full", slots)
    observation, total = env.reset(0), np.zeros(slots)
    for count in range(1, MAX_STEPS + 1):
        step = env.step(balance(observation))
        observation, total = step.observation, total + step.reward
        assert not step.terminated.any()
        assert step.truncated.all() == (count == MAX_STEPS)
    np.testing.assert_array_equal(total, MAX_STEPS)
    assert np.abs(env.step(np.zeros(slots, np.int64)).observation).max() <= 0.05


def test_a_pole_that_falls_on_the_last_step_is_terminated_only() -> None:
    env = build("cartpole/full", 2)
    env.reset(0)
    state = env.state_dict()
    state["steps"][:] = MAX_STEPS - 1
    state["physics"][0] = [0.0, 0.0, 0.2, 3.0]
    env.load_state_dict(state)
    step = env.step(np.ones(2, np.int64))
    np.testing.assert_array_equal(step.terminated, [True, False])
    np.testing.assert_array_equal(step.truncated, [False, True])
