"""Actions of every space: played right, or refused with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

from configs.schema import EnvConfig
from envs.make import make_vec
from envs.spec import EnvError
from envs.suites.gym.env import GymVecEnv
from tests.envs.suites.gym.own import register

F32, F64 = np.finfo(np.float32).max, np.finfo(np.float64).max


def build(space: spaces.Space[Any], num_envs: int = 2) -> GymVecEnv:
    env = make_vec(EnvConfig(id=register(action=space), num_envs=num_envs))
    assert isinstance(env, GymVecEnv)
    env.reset(0)
    return env


def played(env: GymVecEnv, actions: Any) -> list[Any]:
    env.step(np.asarray(actions))
    return [one.unwrapped.played[-1] for one in env._envs]  # type: ignore[attr-defined]


def test_a_multidiscrete_is_choices_from_zero() -> None:
    env = build(MultiDiscrete([[3, 2], [4, 1]], start=[[5, 0], [-1, 0]]))
    assert (env.spec.num_actions, env.spec.action_sizes) == (4, (3, 2, 4, 1))
    one, other = played(env, [[0, 1, 0, 0], [2, 0, 3, 0]])
    assert one.tolist() == [[5, 1], [-1, 0]] and other.tolist() == [[7, 0], [2, 0]]


def test_a_multibinary_is_choices_between_two() -> None:
    env = build(MultiBinary([2, 2]))
    assert (env.spec.num_actions, env.spec.action_sizes) == (4, (2, 2, 2, 2))
    assert played(env, [[0, 1, 1, 0], [1, 1, 1, 1]])[0].tolist() == [[0, 1], [1, 0]]


def test_nested_choices_and_nested_boxes_are_one_action() -> None:
    space = Dict(b=Tuple([MultiBinary(2), Discrete(3, start=1)]), a=MultiDiscrete([4, 2]))
    env = build(space)
    sizes = {"a": (4, 2), "b": (2, 2, 3)}
    assert env.spec.action_sizes == tuple(size for key in space.spaces for size in sizes[key])
    numbers = {"a": [3, 1], "b": [0, 1, 2]}
    row = [number for key in space.spaces for number in numbers[key]]
    action = played(env, [row, row])[0]
    assert action["a"].tolist() == [3, 1] and action["b"][0].tolist() == [0, 1] and action["b"][1] == 3
    env = build(Tuple([Box(-2.0, 2.0, (2,)), Box(0.0, 5.0, ())]))
    assert env.spec.continuous_actions and env.spec.num_actions == 3
    box, number = played(env, np.array([[-1.0, 0.5, 1.0]] * 2, np.float32))[0]
    assert box.tolist() == [-2.0, 1.0] and number == 5.0


def test_choices_out_of_range_are_refused() -> None:
    env = build(MultiDiscrete([3, 2]))
    for bad, words in (
        ([0, 2], "choice 1 of slot 1 is 2, expected 0 to 1"),
        ([-1, 0], "choice 0 of slot 1 is -1"),
    ):
        with pytest.raises(ValueError, match=words):
            env.step(np.array([[0, 0], bad]))
    with pytest.raises(ValueError, match=r"shape \[2\], expected \[2, 2\]"):
        env.step(np.zeros(2, np.int64))


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (-3e38, 3e38, np.float32),
        (-1e4, 6e4, np.float16),
        (-1e38, 1e38, np.float64),
        (0.0, 1e-38, np.float32),
        (1e8, 1e8 + 8, np.float32),
        (2.0, 2.0, np.float32),
    ],
)
def test_the_span_of_bounds_overflows_nowhere(low: float, high: float, dtype: Any) -> None:
    space = Box(low, high, (2,), dtype)
    env = build(space, 3)
    fractions = np.array([[-1.0, 1.0], [0.0, -0.5], [0.25, 0.999]], np.float32)
    expected = low + (fractions.astype(np.longdouble) + 1) / 2 * (np.longdouble(high) - np.longdouble(low))
    for ours, theirs in zip(played(env, fractions), expected, strict=True):
        assert space.contains(ours)
        np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=1e-3)


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (Box(-F32, F32, (2,)), "its bounds are infinite, or the largest number there is"),
        (Box(-F64, F64, (2,), np.float64), "its bounds are infinite, or the largest"),
        (Box(-np.inf, np.inf, (2,)), "its bounds are infinite, or the largest"),
        (Box(np.float32([-1, -np.inf]), np.float32([1, 1])), "its bounds are infinite, or the largest"),
        (Box(0, 255, (2,), np.uint8), "a Box of whole numbers is a MultiDiscrete"),
        (Text(3), "only Discrete, MultiDiscrete, MultiBinary and a bounded Box"),
        (spaces.Sequence(Discrete(2)), "only Discrete, MultiDiscrete"),
        (Dict(a=Discrete(2), b=Box(-1, 1, (1,))), "it is both discrete and continuous"),
        (Dict({}), "there is no choice"),
        (Box(-1, 1, (0,)), "there is no choice"),
        (Discrete(200_000), "it has 200,000 choices, of 100,000 at most"),
    ],
)
def test_what_cannot_be_played_is_refused_with_the_reason(space: spaces.Space[Any], reason: str) -> None:
    with pytest.raises(EnvError, match=rf"has the actions .*: {reason}"):
        build(space)
