"""Suites of other people's memory tasks: each against its raw environment, where it is installed."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import MultiDiscrete, Tuple

from configs.presets import preset
from configs.schema import ConfigError, EnvConfig, VizdoomConfig
from configs.variants import VARIANTS
from envs.doctor import diagnose
from envs.make import check_env, env_spec, make_vec
from envs.spec import EnvError, VecEnv, VecStep
from envs.suites.streams import distinct_seeds

SLOTS = 3
PACKAGES = ("popgym", "minigrid", "vizdoom", "mujoco")
IDS = {
    "popgym": "popgym/RepeatFirstEasy",
    "minigrid": "minigrid/MemoryS7",
    "vizdoom": "vizdoom/MyWayHome",
    "mujoco": "mujoco/InvertedPendulum-P",
}


def build(env_id: str, num_envs: int = SLOTS) -> VecEnv:
    pytest.importorskip(env_id.partition("/")[0])
    return make_vec(EnvConfig(id=env_id, num_envs=num_envs))


def random_actions(env: VecEnv, random: np.random.Generator) -> np.ndarray:
    if env.spec.continuous_actions:  # of few bits, so that no scaling of them rounds
        return random.integers(-32, 33, (env.num_envs, env.spec.num_actions)).astype(np.float32) / 32
    return random.integers(0, env.spec.num_actions, env.num_envs)


def play(env: VecEnv, steps: int, seed: int = 3) -> tuple[list[Any], list[VecStep]]:
    random = np.random.default_rng(0)
    first = env.reset(seed)
    return [first], [env.step(random_actions(env, random)) for _ in range(steps)]


@pytest.mark.parametrize("suite", PACKAGES)
def test_the_same_seed_plays_the_same_and_slots_differ(suite: str) -> None:
    env = build(IDS[suite])
    steps = 60
    once, again = play(env, steps), play(env, steps)
    np.testing.assert_array_equal(once[0][0], again[0][0])
    for a, b in zip(once[1], again[1], strict=True):
        for field in dataclasses.fields(VecStep):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))
    seen = np.stack([once[0][0], *(step.observation for step in once[1])])
    assert seen.dtype == env.spec.observation_dtype and seen.shape[2:] == env.spec.observation_shape
    assert not any(np.array_equal(seen[:, 0], seen[:, other]) for other in range(1, SLOTS))
    assert not np.array_equal(seen, np.stack([play(env, 0, 4)[0][0]] * len(seen)))
    env.close()


def follow(env: VecEnv, raw: list[gymnasium.Env[Any, Any]], encode: Any, act: Any, steps: int) -> int:
    """Steps `env` and the raw envs side by side with the same actions and seeds; how many episodes ended.

    `encode(observation)` is what the suite should show; `act(action)` what the raw env is given.
    """
    random, ends, ended = np.random.default_rng(1), 0, [False] * SLOTS
    seen = env.reset(3)
    for slot, one in enumerate(raw):
        observation, _ = one.reset(seed=int(distinct_seeds(3, SLOTS)[slot]))
        np.testing.assert_array_equal(seen[slot], encode(observation))
    for _ in range(steps):
        actions = random_actions(env, random)
        step = env.step(actions)
        for slot, one in enumerate(raw):
            if ended[slot]:  # the step that only starts the next episode
                observation, reward, terminated, truncated = one.reset()[0], 0.0, False, False
            else:
                observation, reward, terminated, truncated, _ = one.step(act(actions[slot]))
            np.testing.assert_array_equal(step.observation[slot], encode(observation))
            assert step.reward[slot] == np.float32(reward)
            assert (step.terminated[slot], step.truncated[slot]) == (terminated, truncated and not terminated)
            ended[slot] = bool(step.game_over[slot])
            assert ended[slot] == (terminated or truncated)
            ends += ended[slot]
    env.close()
    return ends


def raws(gym_id: str, **options: Any) -> list[gymnasium.Env[Any, Any]]:
    return [gymnasium.make(gym_id, disable_env_checker=True, **options) for _ in range(SLOTS)]


@pytest.mark.parametrize(
    "task", ["RepeatFirstEasy", "CountRecallEasy", "ConcentrationEasy", "AutoencodeEasy"]
)
def test_popgym_is_the_raw_task_with_a_flag_for_the_first_step(task: str) -> None:
    env = build(f"popgym/{task}")
    raw: list[Any] = raws(f"popgym-{task}-v0")
    inner: Any = raw[0].observation_space
    sizes: Any = [inner]
    if isinstance(inner, MultiDiscrete | Tuple):
        sizes = inner.nvec if isinstance(inner, MultiDiscrete) else inner.spaces
    widths = [int(getattr(size, "n", size)) for size in sizes]
    first = [True]

    def encode(observation: Any) -> np.ndarray:
        hot = [np.eye(n)[int(v)] for n, v in zip(widths, np.atleast_1d(observation), strict=True)]
        return np.concatenate([*hot, np.eye(2)[int(first[0])]]).astype(np.float32)

    for one in raw:  # the flag is of the observation that a reset or a step has just returned
        reset, step = one.reset, one.step
        one.reset = lambda reset=reset, **more: (first.__setitem__(0, True), reset(**more))[1]
        one.step = lambda action, step=step: (first.__setitem__(0, False), step(action))[1]
    assert follow(env, raw, encode, int, 220) >= SLOTS


def test_minigrid_is_the_raw_grid_as_one_hot_planes() -> None:
    env = build("minigrid/MemoryS7")

    def encode(observation: dict[str, Any]) -> np.ndarray:
        kind, colour, state = np.moveaxis(observation["image"], -1, 0)
        planes = np.concatenate([np.eye(11)[kind], np.eye(6)[colour], np.eye(3)[state]], axis=-1)
        return np.append(planes.ravel(), np.eye(4)[observation["direction"]]).astype(np.float32)

    # Random play meets one of the two ends, or the limit of 245 steps, which truncates.
    assert follow(env, raws("MiniGrid-MemoryS7-v0"), encode, int, 400) >= SLOTS


def test_a_minigrid_limit_truncates() -> None:
    env = build("minigrid/MemoryS7")
    env.reset(0)
    steps = [env.step(np.full(SLOTS, 6)) for _ in range(246)]  # `done` does nothing
    assert [step.truncated.all() for step in steps] == [False] * 244 + [True, False]
    assert not any(step.terminated.any() for step in steps)


def test_a_minigrid_mission_that_changes_is_a_part() -> None:
    env = build("minigrid/Fetch-5x5-N2")
    assert env.spec.observation_shape == {"mission": (20,), "vector": (984,)}
    missions = {tuple(row) for seed in range(4) for row in env.reset(seed)["mission"].tolist()}
    assert len(missions) > 2 and all(words[2] > 0 for words in missions)


def test_mujoco_terminates_and_truncates_as_the_raw_body_does() -> None:
    pytest.importorskip("mujoco")
    env, raw = build("mujoco/InvertedPendulum-P"), raws("InvertedPendulum-v5")
    act = lambda action: action * np.float32(3.0)  # noqa: E731
    assert follow(env, raw, lambda seen: seen[:2].astype(np.float32), act, 100) > SLOTS
    env = build("mujoco/HalfCheetah-V", 1)
    env.reset(0)
    ends = [env.step(np.zeros((1, 6), np.float32)) for _ in range(1001)]
    assert [step.truncated[0] for step in ends] == [False] * 999 + [True, False]
    assert not any(step.terminated[0] for step in ends)


def test_mujoco_writes_no_log_into_the_working_directory(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    code = "from configs.schema import EnvConfig; from envs.make import env_spec\n"
    code += "env_spec(EnvConfig(id='mujoco/HalfCheetah-P'))"
    root = str(Path(__file__).resolve().parents[4])
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": root}, check=True)
    assert not list(tmp_path.iterdir())


def test_vizdoom_is_the_raw_screen_at_half_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vizdoom: Any = pytest.importorskip("vizdoom")
    env = build("vizdoom/MyWayHome")
    assert env.spec.frames_per_step == 4
    options = {"frame_skip": 4, "screen_resolution": vizdoom.ScreenResolution.RES_160X120}
    monkeypatch.chdir(tmp_path)  # where the raw engines leave their files
    raw = raws("VizdoomMyWayHome-v1", **options)

    def encode(observation: dict[str, Any]) -> np.ndarray:
        screen = observation["screen"].astype(np.int64)
        four = screen[::2, ::2] + screen[1::2, ::2] + screen[::2, 1::2] + screen[1::2, 1::2]
        return ((four + 2) // 4).astype(np.uint8).transpose(2, 0, 1)

    follow(env, raw, encode, int, 40)
    for one in raw:
        one.close()


def test_vizdoom_repeats_the_last_screen_at_the_limit_which_truncates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vizdoom")
    monkeypatch.chdir(tmp_path)
    env = build("vizdoom/MyWayHome", 1)
    env.reset(0)
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/dev/shm/ViZDoom" in line]
    assert mapped and all(line.endswith("(deleted)") for line in mapped), "a killed process would leave names"
    idle = np.zeros(1, np.int64)
    steps = [env.step(idle) for _ in range(526)]  # 2100 frames, 4 a step
    assert [bool(step.truncated[0]) for step in steps] == [False] * 524 + [True, False]
    assert not any(step.terminated[0] for step in steps)
    np.testing.assert_array_equal(steps[524].observation, steps[523].observation)
    assert steps[524].observation.any() and steps[525].reward == 0
    env.close()
    assert not list(tmp_path.iterdir())


def test_two_popgym_tasks_choose_a_square_by_one_action() -> None:
    assert [build(f"popgym/{task}Easy").spec.num_actions for task in ("Battleship", "MineSweeper")] == [
        64,
        16,
    ]


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("popgym/RepeatFirst-Easy", "did you mean popgym/RepeatFirstEasy"),
        ("minigrid/MemoryS8", "did you mean minigrid/MemoryS"),
        ("vizdoom/MyWayhome", "did you mean vizdoom/MyWayHome"),
        ("mujoco/HalfCheetah", "did you mean mujoco/HalfCheetah-"),
        ("mujoco/Reacher-P", "does not say which of its observations are positions"),
    ],
)
def test_what_cannot_be_played_is_refused(env_id: str, message: str) -> None:
    pytest.importorskip(env_id.partition("/")[0])
    with pytest.raises(EnvError, match=message):
        make_vec(EnvConfig(id=env_id))


def test_a_frame_skip_elsewhere_or_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"env\.vizdoom\.frame_skip"):
        VizdoomConfig(frame_skip=0)
    with pytest.raises(EnvError, match=r"env\.vizdoom\.frame_skip = 2 cannot take effect: cartpole/full"):
        check_env(EnvConfig(id="cartpole/full", vizdoom=VizdoomConfig(frame_skip=2)))


@pytest.mark.parametrize("suite", PACKAGES)
def test_a_missing_package_is_named_with_its_command(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == suite else find(name, *a)
    )
    install = f"pip install -c constraints.txt gymnasium {suite}"
    with pytest.raises(EnvError, match=f"needs the package '{suite}', which is not installed: {install}"):
        make_vec(EnvConfig(id=IDS[suite]))
    row = diagnose()["suites"][suite]
    assert (row["runs"], row["missing"], row["install"]) == (False, [suite], install)


PRESETS = [
    *(f"popgym_{task}" for task in ("count_recall", "repeat_first", "concentration", "autoencode")),
    *(
        "popgym_higher_lower",
        "popgym_repeat_previous_hard",
        "minigrid_memory_s7",
        "minigrid_memory_s13_random",
        "minigrid_door_key-8x8",
        "minigrid_fetch-5x5-n2",
        "minigrid_obstructed_maze-2_dlh",
    ),
    "vizdoom_my_way_home",
    *(f"mujoco_{body}_{shown}" for body in ("ant", "half_cheetah", "hopper", "walker2d") for shown in "pv"),
    "mujoco_reacher_g",
]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_environments_that_exist(name: str) -> None:
    configs = [preset(f"{name}_{arm}") for arm in VARIANTS]
    assert [config.preset for config in configs] == [f"{name}_{arm}" for arm in VARIANTS]
    pytest.importorskip(name.partition("_")[0])
    assert env_spec(configs[0].env).id == configs[0].env.id
