"""ProcGen's games as both backends play them: against the contract, the raw packages, and each other."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.schema import EnvConfig, ProcgenConfig
from envs.make import env_spec, make_vec
from envs.spec import VecEnv, VecStep
from envs.suites.procgen.backends import TIME_LIMITS, EnvpoolVecEnv, MirrorVecEnv
from envs.suites.procgen.env import held_out
from envs.suites.streams import distinct_seeds
from tests.envs.suites.procgen.procgen_backends_here import BACKENDS, mirror_can_be_imported, need

SLOTS = 4
STAY = 4
"""The action that does nothing: who stays at leaper's edge meets the time limit."""
FLAGS = ("reward", "terminated", "truncated", "game_over")


@pytest.fixture(scope="module", autouse=True)
def mirror() -> Iterator[None]:
    with mirror_can_be_imported():
        yield


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return request.param


def config(game: str, backend: str, slots: int = SLOTS, threads: int = 1, **options: Any) -> EnvConfig:
    options = {"distribution_mode": "easy"} | options
    procgen = ProcgenConfig(backend=backend, **options)
    return EnvConfig(id=f"procgen/{game}", num_envs=slots, num_threads=threads, procgen=procgen)


def build(*args: Any, **options: Any) -> EnvpoolVecEnv | MirrorVecEnv:
    env = make_vec(config(*args, **options))
    assert isinstance(env, EnvpoolVecEnv | MirrorVecEnv)
    return env


def random_actions(steps: int, slots: int = SLOTS, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 15, (steps, slots))


def play(env: VecEnv, actions: NDArray[np.int64]) -> list[VecStep]:
    return [env.step(row) for row in actions]


def assert_same(one: VecStep, other: VecStep) -> None:
    for name in ("observation", *FLAGS):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_the_choice_of_a_backend_is_obeyed(backend: str) -> None:
    env = build("maze", backend)
    assert type(env) is {"envpool": EnvpoolVecEnv, "procgen": MirrorVecEnv}[backend]


def test_shapes_types_and_fresh_arrays(backend: str) -> None:
    env = build("bossfight", backend)
    assert isinstance(env, VecEnv)
    assert env.spec.observation_shape == (3, 64, 64) and env.spec.observation_dtype == "uint8"
    assert env.spec.num_actions == 15 and env.spec.frames_per_step == 1
    assert env.spec.levels == ("procgen/bossfight",) * SLOTS and env.num_envs == SLOTS
    kept = [env.reset(3), *(step.observation for step in play(env, random_actions(40)))]
    copies = [observation.copy() for observation in kept]
    step = play(env, random_actions(40, seed=1))[-1]
    for observation, copy in zip(kept, copies, strict=True):
        assert observation.shape == (SLOTS, 3, 64, 64) and observation.dtype == np.uint8
        np.testing.assert_array_equal(observation, copy)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(kept) for b in kept[i + 1 :])
    assert step.reward.shape == (SLOTS,) and step.reward.dtype == np.float32
    for flag in (step.terminated, step.truncated, step.game_over):
        assert flag.shape == (SLOTS,) and flag.dtype == np.bool_
    env.close()
    one = env_spec(config("bossfight", backend))
    assert one.observation_shape == env.spec.observation_shape and len(one.levels) == 1


def test_next_step_autoreset(backend: str) -> None:
    """The step after an end ignores its action, earns nothing, carries no flag, and begins another level."""
    one, other = build("bossfight", backend), build("bossfight", backend)
    np.testing.assert_array_equal(one.reset(5), other.reset(5))
    ended, ends = np.zeros(SLOTS, np.bool_), 0
    for row in random_actions(250):
        before = one.level_seeds.copy()
        a, b = one.step(row), other.step(np.where(ended, 14 - row, row))
        assert_same(a, b)
        assert not a.reward[ended].any() and not a.game_over[ended].any()
        assert not (a.terminated & a.truncated).any()
        np.testing.assert_array_equal(a.game_over, a.terminated | a.truncated)
        np.testing.assert_array_equal(one.level_seeds != before, ended)
        ended = a.game_over
        ends += ended.sum()
    assert ends >= 2 * SLOTS


def test_same_seed_same_game_and_another_seed_another(backend: str) -> None:
    one, other = build("bossfight", backend), build("bossfight", backend)
    actions = random_actions(60)
    first, again = one.reset(7), other.reset(7)
    np.testing.assert_array_equal(first, again)
    played = play(one, actions)
    for a, b in zip(played, play(other, actions), strict=True):
        assert_same(a, b)
    np.testing.assert_array_equal(one.reset(7), first)
    for a, b in zip(played, play(one, actions), strict=True):
        assert_same(a, b)
    assert not np.array_equal(one.reset(8), first)
    assert sum(step.game_over.sum() for step in played) > 0


def test_every_slot_draws_levels_of_its_own(backend: str) -> None:
    """Levels are 1 in 2**31, so two slots, or two actors, share one by mistake only."""
    env = build("maze", backend, 16)
    levels = []
    for seed in range(4):
        env.reset(seed)
        levels += env.level_seeds.tolist()
    assert len(set(levels)) == 64


def test_bad_actions_are_refused(backend: str) -> None:
    env = build("maze", backend)
    with pytest.raises(ValueError, match="call reset"):
        env.step(np.zeros(SLOTS, np.int64))
    env.reset(0)
    with pytest.raises(ValueError, match=r"shape \[5\], expected \[4\]"):
        env.step(np.zeros(SLOTS + 1, np.int64))
    for bad in (-1, 15):
        with pytest.raises(ValueError, match=f"{bad}.*expected 0 to 14"):
            env.step(np.array([0, bad, 0, 0]))


def test_a_game_closes_while_another_one_is_loaded() -> None:
    """As the garbage collector may have it: in the thread that holds cffi's lock, which is not reentrant."""
    need("procgen")
    env = build("maze", "procgen", 1)
    env.reset(0)
    assert isinstance(env, MirrorVecEnv)
    with env._games[0]._ffi._lock:
        env.close()


# --- levels -----------------------------------------------------------------------------------------


def levels_seen(env: EnvpoolVecEnv | MirrorVecEnv) -> set[int]:
    """Of the first episodes after some resets, and of those that autoresets begin."""
    seen: set[int] = set()
    for seed in range(6):
        env.reset(seed)
        seen.update(env.level_seeds.tolist())
    for row in random_actions(60, env.num_envs):
        env.step(row)
        seen.update(env.level_seeds.tolist())
    return seen


def test_no_training_level_is_met_elsewhere(backend: str) -> None:
    train_config = config("bossfight", backend, 64, num_levels=200)
    train = levels_seen(make_vec(train_config))  # type: ignore[arg-type]
    assert train <= set(range(200)) and len(train) > 150
    other = levels_seen(build("bossfight", backend, 64, num_levels=50, start_level=200))
    assert other <= set(range(200, 250)) and len(other) > 45
    test_config = held_out(train_config)
    assert test_config is not None
    everything = levels_seen(make_vec(test_config))  # type: ignore[arg-type]
    assert not everything & train and len(everything) > 400


def test_held_out_is_all_levels_of_the_same_game() -> None:
    train = config("maze", "auto", distribution_mode="memory", num_levels=500, start_level=7, threads=2)
    assert held_out(train) == config("maze", "auto", distribution_mode="memory", threads=2)
    assert held_out(config("maze", "auto")) is None
    assert held_out(config("maze", "auto", distribution_mode="exploration")) is None


# --- against the raw packages -----------------------------------------------------------------------


def test_envpool_plays_as_without_us() -> None:
    """Ends included: termination, truncation at the limit, and a final observation of its own."""
    need("envpool")
    import envpool

    env = build("leaper", "envpool", num_levels=1, start_level=7)
    first = env.reset(4)
    raw: Any = envpool.make_gymnasium(  # type: ignore[attr-defined]
        "LeaperEasy-v0",
        num_envs=SLOTS,
        seed=distinct_seeds(4, SLOTS).tolist(),
        num_levels=1,
        start_level=7,
    )
    np.testing.assert_array_equal(first, raw.reset()[0])
    actions = random_actions(520)
    actions[:, 0] = STAY
    ends = {"terminated": 0, "truncated": 0}
    before = first
    for row in actions:
        step = env.step(row)
        observation, reward, terminated, truncated, _ = raw.step(row.astype(np.int32))
        for ours, theirs in zip(
            (step.observation, step.reward, step.terminated, step.truncated),
            (observation, reward, terminated, truncated),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)
        for slot in np.flatnonzero(terminated):
            assert not np.array_equal(step.observation[slot], before[slot])
        ends["terminated"] += terminated.sum()
        ends["truncated"] += truncated.sum()
        before = step.observation
    assert min(ends.values()) >= 1, ends


def test_procgen_plays_as_without_us() -> None:
    """The raw game tells of an end at the next episode's first frame, which ours shows a step later."""
    need("procgen")
    procgen: Any = importlib.import_module("procgen")

    env = build("leaper", "procgen", 2, num_levels=1, start_level=7)
    first = env.reset(4)
    raw = procgen.ProcgenGym3Env(
        num=1, env_name="leaper", distribution_mode="easy", num_levels=1, start_level=7, num_threads=0
    )
    np.testing.assert_array_equal(first[1], raw.observe()[1]["rgb"][0].transpose(2, 0, 1))
    held: NDArray[np.uint8] | None = None
    elapsed, ends = 0, {"terminated": 0, "truncated": 0}
    before = first[1]
    actions = random_actions(800, 2)
    actions[:520] = STAY
    for row in actions:
        step = env.step(row)
        shown = step.observation[1]
        if held is not None:
            np.testing.assert_array_equal(shown, held)
            held, elapsed, before = None, 0, shown
            continue
        raw.act(row[1:].astype(np.int32))
        (reward,), seen, (over,) = raw.observe()
        elapsed += 1
        frame = seen["rgb"][0].transpose(2, 0, 1)
        assert step.reward[1] == reward and step.game_over[1] == over
        assert step.truncated[1] == (over and elapsed == 500)
        np.testing.assert_array_equal(shown, before if over else frame)
        held, before = (frame if over else None), shown
        ends["terminated"] += step.terminated[1]
        ends["truncated"] += step.truncated[1]
    assert min(ends.values()) >= 1, ends


def test_time_limits_and_modes_are_envpools() -> None:
    need("envpool")
    from envpool.registration import registry

    from envs.suites.procgen.env import _MODES

    registered = {name: spec[2] for name, spec in registry.specs.items() if spec[0] == "envpool.procgen"}
    ours = {
        f"{game.capitalize()}{mode.capitalize()}-v0": limit
        for game, limit in TIME_LIMITS.items()
        for mode in ("easy", "hard", *(name for name, games in _MODES.items() if game in games))
    }
    assert {name: options["max_episode_steps"] for name, options in registered.items()} == ours


# --- against each other -----------------------------------------------------------------------------


@pytest.mark.parametrize("game", TIME_LIMITS)
def test_the_same_level_looks_the_same(game: str) -> None:
    need(*BACKENDS)
    one, other = (build(game, backend, 2, num_levels=1, start_level=3) for backend in BACKENDS)
    a, b = one.reset(0).astype(int), other.reset(1).astype(int)
    assert one.level_seeds.tolist() == other.level_seeds.tolist() == [3, 3]
    if game in ("climber", "coinrun"):  # where images are scaled, by two versions of Qt
        assert abs(a - b).max() < 30 and (a != b).mean() < 0.01
    else:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("game", "mode"),
    [
        ("maze", "memory"),
        ("leaper", "extreme"),
        ("chaser", "hard"),
        ("bigfish", "easy"),
        ("leaper", "exploration"),
    ],
)
def test_the_same_level_plays_the_same(game: str, mode: str) -> None:
    """One level, so that both draw it; hundreds of steps, with ends; all but the final observation."""
    need(*BACKENDS)
    levels = {} if mode == "exploration" else {"num_levels": 1, "start_level": 7}
    one, other = (build(game, backend, 2, distribution_mode=mode, **levels) for backend in BACKENDS)
    before = one.reset(0)
    np.testing.assert_array_equal(before, other.reset(1))
    ends = 0
    for row in random_actions(550, 2):
        a, b = one.step(row), other.step(row)
        for name in FLAGS:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
        np.testing.assert_array_equal(one.level_seeds, other.level_seeds)
        over = a.game_over
        np.testing.assert_array_equal(a.observation[~over], b.observation[~over])
        np.testing.assert_array_equal(b.observation[over], before[over])
        before = b.observation
        ends += over.sum()
    assert ends >= 1


def test_threads_change_nothing() -> None:
    need("envpool")
    one, two = build("bossfight", "envpool", 8), build("bossfight", "envpool", 8, threads=2)
    np.testing.assert_array_equal(one.reset(1), two.reset(1))
    for row in random_actions(100, 8):
        assert_same(one.step(row), two.step(row))
