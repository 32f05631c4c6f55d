"""Observations of every space: read right, or refused with the reason; and what does not lie in its space."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.schema import EnvConfig
from envs.make import make_vec
from envs.spec import EnvError, EnvFaultError
from envs.suites.gym.spaces import ObservationReader
from tests.envs.suites.gym.own import BYTES, register

IMAGE = Box(shape=(6, 5, 3), **BYTES)


def read(space: spaces.Space[Any], *values: Any) -> Any:
    return ObservationReader("x", space).read(values)


@pytest.mark.parametrize(
    ("shape", "channels", "turned"),
    [
        ((84, 84, 12), 12, (2, 0, 1)),
        ((12, 84, 84), 12, (0, 1, 2)),
        ((84, 84, 4), 4, (2, 0, 1)),
        ((4, 84, 84), 4, (0, 1, 2)),
        ((210, 160, 3), 3, (2, 0, 1)),
        ((3, 210, 160), 3, (0, 1, 2)),
        ((7, 7, 20), 20, (2, 0, 1)),
        ((20, 7, 7), 20, (0, 1, 2)),
        ((60, 80, 6), 6, (2, 0, 1)),
        ((4, 30, 40, 3), 12, (0, 3, 1, 2)),
        ((30, 40, 3, 4), 12, (2, 3, 0, 1)),
        ((30, 40), 1, (0, 1)),
    ],
)
def test_channels_are_found(shape: tuple[int, ...], channels: int, turned: tuple[int, ...]) -> None:
    space = Box(shape=shape, **BYTES)
    value = space.sample()
    reader = ObservationReader("x", space)
    expected = value.transpose(turned).reshape(reader.shape)
    assert reader.shape[0] == channels and reader.dtype == "uint8"
    assert sorted(reader.shape[1:]) == sorted(shape[turned[-2]] if i else shape[turned[-1]] for i in (0, 1))
    np.testing.assert_array_equal(reader.read([value, value])[1], expected)


@pytest.mark.parametrize("shape", [(84, 84, 84), (5, 6, 5), (8, 9, 9, 8, 9, 9)])
def test_an_image_that_cannot_be_told_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(EnvError, match=r"which axes are the sides .* cannot be told.*--env.wrappers"):
        ObservationReader("x", Box(shape=shape, **BYTES))


@pytest.mark.parametrize("shape", [(128,), (4, 128), (2, 3, 4), (3, 3, 20), ()])
def test_bytes_that_are_no_image_are_a_vector_of_bytes(shape: tuple[int, ...]) -> None:
    value = Box(shape=shape, **BYTES).sample()
    seen = read(Box(shape=shape, **BYTES), value)
    assert seen.dtype == np.uint8
    np.testing.assert_array_equal(seen[0], np.reshape(value, -1))
    beside = read(Dict(b=Box(shape=shape, **BYTES), x=Discrete(2)), {"b": value, "x": 1})
    np.testing.assert_allclose(beside[0], [*np.reshape(value, -1) / 255, 0, 1], rtol=1e-6)


def test_an_image_that_ends_below_255_is_stretched_and_a_vector_is_not() -> None:
    image = np.arange(60, dtype=np.uint8).reshape(6, 10) % 11
    seen = read(Box(0, 10, (6, 10), np.uint8), image)[0, 0]
    np.testing.assert_array_equal(seen, np.round(image * 25.5))
    assert len(np.unique(seen)) == 11 and seen.max() == 255
    vector = read(Box(0, 1, (3,), np.uint8), np.array([1, 0, 1], np.uint8))
    assert vector.dtype == np.float32 and vector.tolist() == [[1.0, 0.0, 1.0]]


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8, np.uint16, np.int64, np.bool_])
def test_a_box_of_any_type_is_float32(dtype: Any) -> None:
    space = Box(0, 1, (2, 3), dtype)
    value = space.sample()
    seen = read(space, value)
    assert seen.dtype == np.float32 and seen.shape == (1, 2, 3)
    np.testing.assert_array_equal(seen[0], value.astype(np.float32))


def test_a_number_and_a_text_alone() -> None:
    assert read(Box(-1.0, 1.0, ()), np.array(0.5, np.float32)).tolist() == [[0.5]]
    words = read(Text(20), "go left")
    assert words.shape == (1, 20) and words.dtype == np.int64 and (words[0] > 0).sum() == 2


def test_names_that_become_one_by_joining_stay_two() -> None:
    space = Dict({"a_b": IMAGE, "a": Dict(b=IMAGE), "vector": IMAGE, "": IMAGE, "x": Box(-1.0, 1.0, (2,))})
    value = space.sample()
    seen = read(space, value)
    images = [value["a_b"], value["a"]["b"], value["vector"], value[""]]
    assert len(seen) == 5 and all(isinstance(name, str) and name for name in seen)
    found = {part[0].tobytes() for part in seen.values()}
    assert found == {image.transpose(2, 0, 1).tobytes() for image in images} | {value["x"].tobytes()}


def test_large_one_hots_take_no_more_than_themselves() -> None:
    seen = read(MultiDiscrete([50_000, 3], start=[7, 0]), np.array([11, 2]), np.array([7 + 49_999, 0]))
    assert seen.shape == (2, 50_003)
    assert [np.flatnonzero(row).tolist() for row in seen] == [[4, 50_002], [49_999, 50_000]]


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (spaces.Sequence(Discrete(2)), "Sequence has no fixed form"),
        (spaces.Graph(Box(-1, 1, (2,)), None), "Graph has no fixed form"),
        (spaces.OneOf([Discrete(2), Discrete(3)]), "OneOf has no fixed form"),
        (Dict(a=Tuple([Discrete(2), spaces.Sequence(Discrete(2))])), r"observation\['a'\]\[1\] is Sequence"),
        (Dict({}), "there is nothing in it"),
        (Tuple([]), "there is nothing in it"),
        (Dict(a=Tuple([])), "there is nothing in it"),
        (Box(-1, 1, (0,)), "there is nothing in it"),
        (Box(shape=(0, 84, 84), **BYTES), "there is nothing in it"),
        (Discrete(2**40), "as one-hot it has 1,099,511,627,776 numbers, of 1,000,000 at most"),
        (MultiDiscrete([999_999, 2]), "as one-hot it has 1,000,001 numbers"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(space: spaces.Space[Any], reason: str) -> None:
    with pytest.raises(EnvError, match=reason):
        ObservationReader("x", space)


def test_a_space_of_the_old_gym_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    old: Any = types.ModuleType("gym.spaces.box")
    exec("class Box:\n    def __repr__(self): return 'Box(3,)'", old.__dict__)
    monkeypatch.setitem(sys.modules, "gym.spaces.box", old)
    for options, what in (({"observation": old.Box()}, "observation"), ({"action": old.Box()}, "action")):
        with pytest.raises(
            EnvError, match=rf"its {what}_space is Box\(3,\) \(gym\.spaces\.box\.Box\), the old package"
        ):
            make_vec(EnvConfig(id=register(**options)))


PARTS = Dict(a=Tuple([Box(-1.0, 1.0, (2,)), Discrete(5, start=2)]), image=IMAGE)
GOOD: dict[str, Any] = {
    "a": (np.zeros(2, np.float32), 3),
    "image": np.zeros((6, 5, 3), np.uint8),
}


@pytest.mark.parametrize(
    ("space", "value", "words"),
    [
        (Discrete(5), -1, "observation of slot 0 is -1, expected an integer from 0 to 4"),
        (Discrete(5), 5, "observation of slot 0 is 5, expected an integer from 0 to 4"),
        (Discrete(5, start=-2), 3, "is 3, expected an integer from -2 to 2"),
        (Discrete(5), 2.0, r"is .*2\.0.*, expected an integer from 0 to 4"),
        (Discrete(5), np.array([2]), r"is int64\[1\], expected an integer from 0 to 4"),
        (MultiDiscrete([[2, 3]]), np.array([[1, 3]]), r"is 3, expected an integer from 0 to 2 at \[0, 1\]"),
        (MultiDiscrete([2, 3]), np.array([1]), r"is int64\[1\], expected integers \[2\]"),
        (MultiBinary(2), np.array([0, 2]), "is .*2.*, expected 0 or 1"),
        (Text(5), b"no", "is b'no', expected a text"),
        (Box(-1.0, 1.0, (3,)), np.zeros(2), r"is float64\[2\], expected float32\[3\]"),
        (Box(-1.0, 1.0, (3,)), [[1, 2], 3], r"is \[\[1, 2\], 3\], expected float32\[3\]"),
        (Box(-1.0, 1.0, (3,)), None, r"is None, expected float32\[3\]"),
        (Box(-1.0, 1.0, (3,)), np.array(["a", "b", "c"]), r"is <U1\[3\], expected float32\[3\]"),
        (Box(0, 9, (3,), np.int64), np.zeros(3), r"is float64\[3\], expected int64\[3\]"),
        (IMAGE, np.zeros((6, 5, 3)), r"is float64\[6, 5, 3\], expected uint8\[6, 5, 3\]"),
        (IMAGE, np.full((6, 5, 3), 256), r"is .*256.*, expected a number from 0 to 255"),
        (PARTS, GOOD | {"a": (np.zeros(3), 3)}, r"observation\['a'\]\[0\] of slot 0 is float64\[3\]"),
        (PARTS, GOOD | {"a": (np.zeros(2), 7)}, r"observation\['a'\]\[1\] of slot 0 is 7, .* from 2 to 6"),
        (PARTS, GOOD | {"a": (np.zeros(2),)}, r"observation\['a'\] of slot 0 is \(.*, expected a tuple of 2"),
        (PARTS, {"a": GOOD["a"]}, r"observation of slot 0 is \['a'\], expected a dict of 'a', 'image'"),
        (
            PARTS,
            GOOD | {"a": (np.array([0.0, np.nan]), 3)},
            r"observation\['a'\]\[0\] of slot 0 is .*nan.*, expected a finite number at \[1\]",
        ),
        (PARTS, GOOD | {"more": 1}, r"is \['a', 'image', 'more'\], expected a dict of 'a', 'image'"),
    ],
)
def test_what_does_not_lie_in_its_space_is_named(space: spaces.Space[Any], value: Any, words: str) -> None:
    env_id = register(observation=space, show=lambda env: value if env.count == 2 else space.sample())
    env = make_vec(EnvConfig(id=env_id))
    env.reset(0)
    env.step(np.zeros(1, np.int64))
    with pytest.raises(EnvFaultError, match=rf"^{env_id}: .*{words}"):
        env.step(np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: (a[0], np.ones(1), *a[2:]), r"reward of slot 0 is float64\[1\], expected a number"),
        (lambda a: (a[0], None, *a[2:]), "reward of slot 0 is None, expected a number"),
        (lambda a: (a[0], "1", *a[2:]), "reward of slot 0 is '1', expected a number"),
        (lambda a: (*a[:2], 0.0, *a[3:]), "terminated of slot 0 is 0.0, expected a bool"),
        (lambda a: (*a[:3], np.zeros(1, bool), a[4]), r"truncated of slot 0 is bool\[1\], expected a bool"),
        (
            lambda a: (*a[:3], {}),
            "what step.. returned of slot 0 is a tuple of 4, expected .observation, reward, t",
        ),
    ],
)
def test_a_step_that_is_none_is_named(change: Any, words: str) -> None:
    env_id = register(arrive=lambda env, arrived: change(arrived))
    env = make_vec(EnvConfig(id=env_id))
    env.reset(0)
    with pytest.raises(EnvFaultError, match=rf"^{env_id}: .*{words}"):
        env.step(np.zeros(1, np.int64))


@pytest.mark.parametrize("reward", [1, True, np.float64(1.0), np.array(1.0), np.int8(1)])
def test_numbers_of_any_type_are_rewards(reward: Any) -> None:
    env_id = register(arrive=lambda env, a: (a[0], reward, np.bool_(False), np.array(False), None))
    env = make_vec(EnvConfig(id=env_id))
    env.reset(0)
    step = env.step(np.zeros(1, np.int64))
    assert step.reward.tolist() == [1.0] and step.reward.dtype == np.float32 and not step.game_over.any()


def test_infos_are_never_merged() -> None:
    made = iter(range(4))

    def arrive(env: Any, arrived: Any) -> Any:
        env.number = getattr(env, "number", None) or next(made)
        return (*arrived[:4], {"found": None if env.number % 2 else np.ones(env.number), "x": [env.number]})

    env = make_vec(EnvConfig(id=register(arrive=arrive), num_envs=3))
    env.reset(0)
    ends = [env.step(np.zeros(3, np.int64)).terminated.all() for _ in range(9)]
    assert ends == [False] * 6 + [True, False, False]


NUMBERS = st.recursive(
    st.one_of(
        st.builds(lambda n, start: Discrete(n, start=start), st.integers(1, 5), st.integers(-3, 3)),
        st.builds(lambda n: MultiDiscrete(n), st.lists(st.integers(1, 4), min_size=1, max_size=3)),
        st.builds(lambda n: MultiBinary(n), st.integers(1, 4)),
        st.builds(
            lambda s: Box(-2.0, 3.0, s, np.float64), st.lists(st.integers(1, 3), max_size=3).map(tuple)
        ),
        st.builds(lambda s: Box(-9, 9, s, np.int16), st.lists(st.integers(1, 3), max_size=3).map(tuple)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(Tuple),
        st.dictionaries(st.text("ab_.", max_size=3), inner, min_size=1, max_size=3).map(Dict),
    ),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None, database=None)
@given(space=NUMBERS, seed=st.integers(0, 1000))
def test_numbers_are_as_gymnasium_flattens_them(space: spaces.Space[Any], seed: int) -> None:
    space.seed(seed)
    values = [space.sample() for _ in range(2)]
    seen = read(space, *values)
    for row, value in zip(seen, values, strict=True):
        # Gymnasium starts each of a MultiDiscrete's choices at `start` too.
        np.testing.assert_array_equal(row.ravel(), np.float32(spaces.flatten(space, value)))
    assert seen.dtype == np.float32
