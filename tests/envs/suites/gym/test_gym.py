"""Any Gymnasium id. Some odd environments are registered here, as a user's own module would."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Space, Text, Tuple

from configs.schema import EnvConfig
from envs.make import make_vec
from envs.spec import EnvError
from envs.suites.gym.env import GymVecEnv
from envs.suites.streams import distinct_seeds

SLOTS = 4


class Odd(gymnasium.Env[Any, Any]):
    """Ends after `length` steps by itself; the last action can be read in `played`."""

    played: list[int]

    def __init__(self, observation: Space[Any], action: Space[Any], length: int = 5) -> None:
        self.observation_space, self.action_space, self.length = observation, action, length
        self.played = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.count = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action)
        self.played.append(int(action))
        self.count += 1
        return self.observation_space.sample(), float(action), self.count == self.length, False, {}


BYTES: dict[str, Any] = {"low": 0, "high": 255, "dtype": np.uint8}
SPACES: dict[str, Space[Any]] = {
    "ImageLast": Box(shape=(7, 9, 3), **BYTES),
    "ImageFirst": Box(shape=(4, 9, 9), **BYTES),
    "Grey": Box(shape=(7, 9), **BYTES),
    "Ram": Box(shape=(12,), **BYTES),
    "Double": Box(-1.0, 1.0, (3, 2), np.float64),
    "Cell": Discrete(6, start=2),
    "Many": MultiDiscrete([3, 2], start=[0, 4]),
    "Bits": MultiBinary(3),
    "Vectors": Dict(b=Discrete(2), a=Tuple([Box(-1.0, 1.0, (2,)), MultiBinary(1)])),
    "Parts": Dict(
        screen=Box(shape=(7, 9, 3), **BYTES),
        speed=Box(-1.0, 1.0, (2, 2)),
        goal=Text(12, min_length=3),
        held=Discrete(3),
    ),
    "Unending": Sequence(Discrete(2)),
}
for _name, _space in SPACES.items():
    _spaces = {"observation": _space, "action": Discrete(3, start=5)}
    gymnasium.register(f"Odd{_name}-v0", Odd, kwargs=_spaces, max_episode_steps=5)
gymnasium.register("OddBroken-v0", "no_such_module:Env")


def build(env_id: str, num_envs: int = SLOTS) -> GymVecEnv:
    env = make_vec(EnvConfig(id=env_id, num_envs=num_envs))
    assert isinstance(env, GymVecEnv)
    return env


def raw(env_id: str, slot: int) -> list[Any]:
    """What slot `slot` of a GymVecEnv seeded with 3 should see, straight from the env."""
    env = gymnasium.make(env_id, disable_env_checker=True)
    observations = [env.reset(seed=int(distinct_seeds(3, SLOTS)[slot]))[0]]
    return observations + [env.step(5)[0] for _ in range(5)]


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("ImageLast", (3, 7, 9), "uint8"),
        ("ImageFirst", (4, 9, 9), "uint8"),
        ("Grey", (1, 7, 9), "uint8"),
        ("Ram", (12,), "uint8"),
        ("Double", (3, 2), "float32"),
        ("Cell", (6,), "float32"),
        ("Many", (5,), "float32"),
        ("Bits", (3,), "float32"),
    ],
)
def test_observations_are_encoded_and_fresh(name: str, shape: tuple[int, ...], dtype: str) -> None:
    env = build(f"Odd{name}-v0")
    assert (env.spec.observation_shape, env.spec.observation_dtype) == (shape, dtype)
    assert env.spec.num_actions == 3
    seen = [env.reset(3), *(env.step(np.zeros(SLOTS, np.int64)).observation for _ in range(5))]
    for slot in range(SLOTS):
        for ours, theirs in zip(seen, raw(f"Odd{name}-v0", slot), strict=True):
            if name == "ImageLast":
                theirs = np.moveaxis(theirs, -1, 0)
            elif name == "Cell":
                theirs = np.eye(6)[theirs - 2]
            elif name == "Many":
                theirs = np.concatenate([np.eye(3)[theirs[0]], np.eye(2)[theirs[1] - 4]])
            assert ours.dtype == dtype and ours.shape == (SLOTS, *shape)
            np.testing.assert_array_equal(ours[slot], np.asarray(theirs).astype(dtype).reshape(shape))
    assert not any(np.shares_memory(a, b) for i, a in enumerate(seen) for b in seen[i + 1 :])


def test_vectors_of_a_dictionary_become_one() -> None:
    env = build("OddVectors-v0")
    assert (env.spec.observation_shape, env.spec.observation_dtype) == ((5,), "float32")
    for slot, seen in enumerate(env.reset(3)):
        theirs = raw("OddVectors-v0", slot)[0]
        np.testing.assert_array_equal(seen, [*np.eye(2)[theirs["b"]], *theirs["a"][0], *theirs["a"][1]])


def test_images_and_texts_of_a_dictionary_stay_parts() -> None:
    env = build("OddParts-v0")
    shapes = {"goal": (20,), "screen": (3, 7, 9), "vector": (7,)}
    dtypes = {"goal": "int64", "screen": "uint8", "vector": "float32"}
    assert (env.spec.observation_shape, env.spec.observation_dtype) == (shapes, dtypes)
    seen = [env.reset(3), *(env.step(np.zeros(SLOTS, np.int64)).observation for _ in range(5))]
    for slot in range(SLOTS):
        for ours, theirs in zip(seen, raw("OddParts-v0", slot), strict=True):
            assert {name: part.dtype for name, part in ours.items()} == dtypes
            np.testing.assert_array_equal(ours["screen"][slot], np.moveaxis(theirs["screen"], -1, 0))
            vector = [*theirs["speed"].ravel(), *np.eye(3)[theirs["held"]]]
            np.testing.assert_array_equal(ours["vector"][slot], np.asarray(vector, np.float32))
            assert ours["goal"][slot, 0] > 0 and not ours["goal"][slot, 1:].any(), "one word"


def test_continuous_actions_span_the_envs_range() -> None:
    env = build("Pendulum-v1", 3)
    assert env.spec.continuous_actions and env.spec.num_actions == 1
    one = gymnasium.make("Pendulum-v1")
    expected = []
    for slot, torque in enumerate((-2.0, 0.5, 2.0)):
        one.reset(seed=int(distinct_seeds(3, 3)[slot]))
        expected.append(one.step(np.array([torque], np.float32))[1])
    env.reset(3)
    step = env.step(np.array([[-1.0], [0.25], [1.0]], np.float32))
    np.testing.assert_allclose(step.reward, expected, rtol=1e-6)
    for bad in (np.array([[0.0], [1.5], [0.0]]), np.array([[0.0], [np.nan], [0.0]]), np.zeros(3)):
        with pytest.raises(ValueError, match="expected"):
            env.step(bad.astype(np.float32))


def test_actions_start_at_zero_for_us_and_at_start_for_the_env() -> None:
    env = build("OddRam-v0", 3)
    env.reset(0)
    step = env.step(np.array([0, 1, 2]))
    np.testing.assert_array_equal(step.reward, [5.0, 6.0, 7.0])
    with pytest.raises(ValueError, match="expected 0 to 2"):
        env.step(np.array([0, 1, 3]))


def test_an_end_by_itself_on_the_last_step_allowed_is_a_termination_only() -> None:
    env = build("OddRam-v0", 2)
    env.reset(0)
    for count in range(1, 13):
        step = env.step(np.ones(2, np.int64))
        assert step.terminated.all() == step.game_over.all() == (count % 6 == 5)
        assert not step.truncated.any()
        assert (step.reward == (0.0 if count % 6 == 0 else 6.0)).all()


def test_dummy_action_is_ignored_and_time_limits_truncate() -> None:
    one, other = build("MountainCar-v0"), build("MountainCar-v0")
    np.testing.assert_array_equal(one.reset(1), other.reset(1))
    random, ended = np.random.default_rng(0), np.zeros(SLOTS, np.bool_)
    for count in range(1, 206):
        row = random.integers(0, 3, SLOTS)
        a, b = one.step(row), other.step(np.where(ended, 2 - row, row))
        np.testing.assert_array_equal(a.observation, b.observation)
        assert not a.reward[ended].any() and not a.game_over[ended].any()
        assert a.truncated.all() == (count == 200) and not a.terminated.any()
        ended = a.game_over
    assert a.observation.dtype == np.float32


def test_slots_are_seeded_apart_and_repeatably() -> None:
    env = build("CartPole-v1", 16)
    first = env.reset(5)
    assert len(np.unique(first, axis=0)) == 16
    np.testing.assert_array_equal(first, env.reset(5))
    assert not np.array_equal(first, env.reset(6))


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        (
            "OddUnending-v0",
            "observation is Sequence.*which no policy here can read: Sequence has no fixed form",
        ),
        ("OddBroken-v0", "cannot be made: .*no_such_module"),
        ("no_such_module:Thing-v0", "'no_such_module' cannot be imported"),
        ("cartpole-v1", "did you mean CartPole-v1"),
        ("CartPole", "did you mean CartPole-v"),
        ("json:CartPole-v9", "no such environment"),
    ],
)
def test_what_cannot_be_used_is_refused(env_id: str, message: str) -> None:
    with pytest.raises(EnvError, match=message):
        build(env_id)


def test_a_module_is_imported_for_its_ids(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_envs.py").write_text(
        "import gymnasium\n"
        "entry = 'gymnasium.envs.classic_control:MountainCarEnv'\n"
        "gymnasium.register('Mine-v0', entry, max_episode_steps=3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    env = build("my_own_envs:Mine-v0")
    env.reset(0)
    cut_off = [bool(env.step(np.zeros(SLOTS, np.int64)).truncated.all()) for _ in range(4)]
    assert cut_off == [False, False, True, False]
    assert env.spec.id == "my_own_envs:Mine-v0"
