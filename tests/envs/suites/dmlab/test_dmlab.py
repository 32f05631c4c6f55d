"""The DeepMind Lab adapter, real processes included, over the stand-in of fake_deepmind_lab.py."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

from actors.policy import Policy
from configs.schema import ConfigError, DmlabConfig, EnvConfig, PolicyConfig
from envs.make import check_env, env_spec, make_vec
from envs.spec import EnvError, VecEnv
from envs.suites.dmlab import process as dmlab_process
from envs.suites.dmlab.engine import LevelCache
from envs.suites.dmlab.env import ACTIONS, MAX_SEED, DmlabVecEnv, LevelSeeds
from envs.suites.dmlab.levels import MEMORY_SUITE
from tests.envs.suites.dmlab.fake_deepmind_lab import EPISODE_FRAMES, MAPS, SEED_CHANNEL, install
from tests.integration.cli import wait_until

FAKE = Path(__file__).with_name("fake_deepmind_lab.py")
ROOM = "dmlab/tests/empty_room_test"
GOALS = "dmlab/explore_goal_locations_small"
STEPS = -(-EPISODE_FRAMES // 4)
"""Of an episode: the last one ends inside its four frames."""
FORWARD, BACKWARD = 0, 1


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the stand-in's engines say what they were made of."""
    return install(tmp_path, monkeypatch)


Build = Callable[..., DmlabVecEnv]


@pytest.fixture
def build() -> Iterator[Build]:
    made: list[VecEnv] = []

    def make(env_id: str = ROOM, num_envs: int = 1, actor_id: int = 0, **options: Any) -> DmlabVecEnv:
        config = EnvConfig(id=env_id, num_envs=num_envs, dmlab=DmlabConfig(**options))
        env = make_vec(config, actor_id=actor_id)
        assert isinstance(env, DmlabVecEnv)
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()


def number(observation: NDArray[np.uint8], row: int) -> list[int]:
    """What the stand-in wrote into each slot's image: row 0 the seed, row 1 the frame."""
    return [int.from_bytes(image[SEED_CHANNEL, row, :4].tobytes(), "little") for image in observation]


def logged(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def everyone(action: int, env: VecEnv) -> NDArray[np.int64]:
    return np.full(env.num_envs, action)


def test_images_are_channels_first_and_fresh(build: Build) -> None:
    env = build(num_envs=2)
    assert isinstance(env, VecEnv)
    assert env.spec.observation_shape == (3, 72, 96) and env.spec.observation_dtype == "uint8"
    assert env.spec.num_actions == 9 and env.spec.frames_per_step == 4 and env.spec.levels == (ROOM, ROOM)
    kept = [env.reset(3), *(env.step(everyone(FORWARD, env)).observation for _ in range(STEPS + 2))]
    for observation in kept:
        assert observation.shape == (2, 3, 72, 96) and observation.dtype == np.uint8
        np.testing.assert_array_equal(observation[1, 2, 50], np.arange(96))
    assert not any(np.shares_memory(a, b) for i, a in enumerate(kept) for b in kept[i + 1 :])


def test_what_the_caller_does_to_an_observation_is_not_repeated(build: Build) -> None:
    env = build()
    env.reset(3)
    steps = [env.step(everyone(FORWARD, env)) for _ in range(STEPS - 1)]
    last = steps[-1].observation.copy()
    steps[-1].observation[:] = 0
    final = env.step(everyone(FORWARD, env))
    assert final.terminated.all()
    np.testing.assert_array_equal(final.observation, last)


def test_a_set_of_levels_is_spread_over_slots_and_actors(build: Build, log: Path) -> None:
    played = []
    for actor_id in range(3):
        env = build("dmlab/memory_suite", num_envs=4, actor_id=actor_id, dataset_path="dummy")
        scripts = {line["pid"]: line["level"] for line in logged(log)}
        assert [scripts[pid] for pid in env.engine_pids()] == [
            f"contributed/psychlab/memory_suite_01/{level.removeprefix('dmlab/')}"
            for level in env.spec.levels
        ]
        env.reset(0)
        played += env.spec.levels
        env.close()
    assert played == [f"dmlab/{level}" for level in MEMORY_SUITE] * 2
    assert env_spec(EnvConfig(id=played[0], dmlab=DmlabConfig(dataset_path="dummy"))).levels == (played[0],)


def test_next_step_autoreset(build: Build) -> None:
    env = build(num_envs=2)
    seeds = [number(env.reset(7), 0)]
    for _ in range(3):
        earned = np.zeros(2)
        for index in range(STEPS):
            step = env.step(everyone(FORWARD, env))
            earned += step.reward
            assert step.terminated.tolist() == step.game_over.tolist() == [index == STEPS - 1] * 2
            assert not step.truncated.any()
            # There is no observation after the end: the last one comes again.
            assert number(step.observation, 1) == [4 * min(index + 1, STEPS - 1)] * 2
        assert earned.tolist() == [EPISODE_FRAMES] * 2
        first = env.step(everyone(FORWARD, env))  # the action is ignored
        assert not first.reward.any() and not (first.terminated | first.truncated).any()
        assert number(first.observation, 1) == [0, 0]
        seeds.append(number(first.observation, 0))
    assert len({seed for row in seeds for seed in row}) == 8


def test_actions_reach_the_engine_and_slots_end_apart(build: Build) -> None:
    env = build(num_envs=2, action_repeat=1)
    env.reset(0)
    step = env.step(np.array([FORWARD, BACKWARD]))
    assert step.reward.tolist() == [1.0, 0.0] and env.spec.frames_per_step == 1
    env._ended[1] = True  # slot 1 begins anew, while slot 0 goes on
    assert number(env.step(everyone(FORWARD, env)).observation, 1) == [2, 0]


@pytest.mark.parametrize(("name", "count"), [("impala", 9), ("popart", 15)])
def test_every_action_is_one_that_the_engine_takes(build: Build, name: str, count: int) -> None:
    assert len(set(ACTIONS[name])) == len(ACTIONS[name]) == count
    env = build(actions=name, action_repeat=1)
    assert env.spec.num_actions == count
    env.reset(0)
    rewards = [env.step(np.array([action])).reward[0] for action in range(count)]
    assert rewards == [float(action[3] == 1) for action in ACTIONS[name]]


def test_same_seed_same_stream_and_other_seeds_others(build: Build) -> None:
    def seeds(env: VecEnv, seed: int) -> list[list[int]]:
        found = [number(env.reset(seed), 0)]
        for _ in range(2 * (STEPS + 1)):
            found.append(number(env.step(everyone(FORWARD, env)).observation, 0))
        return found

    one, other = build(num_envs=2), build(num_envs=2, actor_id=1)
    first = seeds(one, 11)
    assert seeds(other, 11) == first == seeds(one, 11)
    assert {seed for row in first for seed in row}.isdisjoint(seed for row in seeds(one, 12) for seed in row)


def test_no_level_seed_comes_twice() -> None:
    seeds = LevelSeeds(2**62 + 5, 3)
    drawn = [seeds.next(slot) for _ in range(20_000) for slot in (0, 0, 2, 1, 1)]
    assert len(set(drawn)) == 100_000
    assert all(type(seed) is int and 0 <= seed < MAX_SEED == 2**31 - 1 for seed in drawn)


def test_the_engine_is_made_as_asked(build: Build, log: Path, tmp_path: Path) -> None:
    build("dmlab/rooms_watermaze")
    build(width=64, height=48, renderer="hardware", dataset_path=str(tmp_path), held_out=True)
    plain, asked = logged(log)
    image = ["RGB_INTERLEAVED"]
    assert plain["level"] == "contributed/dmlab30/rooms_watermaze" and plain["observations"] == image
    sizes = {"width": "96", "height": "72", "fps": "60", "logLevel": "WARN"}
    assert plain["config"] == sizes and plain["renderer"] == "software"
    assert asked["renderer"] == "hardware"
    assert asked["config"] == sizes | {
        "width": "64",
        "height": "48",
        "datasetPath": str(tmp_path),
        "allowHoldOutLevels": "true",
        "mixerSeed": "1611489005",
    }


def test_each_slot_has_a_process_of_its_own_and_leaves_none(build: Build, log: Path) -> None:
    env = build(num_envs=3)
    pids = env.engine_pids()
    assert sorted(pids) == sorted(line["pid"] for line in logged(log)) and os.getpid() not in pids
    env.close()
    env.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(ValueError, match="closed"):
        env.reset(0)


def test_step_before_reset_and_bad_actions(build: Build) -> None:
    env = build()
    with pytest.raises(ValueError, match="call reset"):
        env.step(np.zeros(1, np.int64))
    env.reset(0)
    with pytest.raises(ValueError, match=r"expected \[1\]"):
        env.step(np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="expected 0 to 8"):
        env.step(np.array([9]))


# --- engines that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("no_such_level", "RuntimeError: Failed to init environment"),
        ("fake_lua_error", "fake_lua_error.lua: cannot be loaded"),
    ],
)
def test_a_level_that_does_not_load_is_refused(level: str, words: str) -> None:
    config = EnvConfig(id=f"dmlab/tests/{level}", num_envs=2)
    check_env(config)  # which levels there are, only the engine knows
    with pytest.raises(EnvError, match=words) as caught:
        env_spec(config)
    assert f"dmlab/tests/{level}, slot 0 of actor 0: the engine failed" in str(caught.value)


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("fake_step_error", 'ValueError: Failed to advance environment "attempt to index a nil value"'),
        ("fake_abort", r"exit code -6 \(SIGABRT\); its last words:\n.*ERROR: Hunk_Alloc failed"),
        ("fake_exit", "exit code 3; it printed nothing"),
    ],
)
def test_an_engine_that_fails_says_why(build: Build, level: str, words: str) -> None:
    env = build(f"dmlab/tests/{level}", num_envs=2, actor_id=5)
    env.reset(0)
    pids = env.engine_pids()
    with pytest.raises(EnvError, match=rf"(?s)slot 0 of actor 5: the engine.*{words}"):
        for _ in range(STEPS):
            env.step(everyone(FORWARD, env))
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(ValueError, match="call reset"):
        env.step(everyone(FORWARD, env))


def test_an_engine_that_was_killed_is_missed_at_once(build: Build) -> None:
    env = build(num_envs=2)
    env.reset(0)
    os.kill(env.engine_pids()[1], signal.SIGKILL)
    with pytest.raises(EnvError, match=r"slot 1 of actor 0.* -9 \(SIGKILL\)"):
        for _ in range(2):
            env.step(everyone(FORWARD, env))


def test_an_engine_may_print_as_much_as_it_likes(build: Build) -> None:
    env = build("dmlab/tests/fake_chatter")
    env.reset(0)
    for _ in range(40):
        env.step(np.zeros(1, np.int64))


def test_a_stuck_engine_is_killed_at_the_end(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dmlab_process, "CLOSING_S", 0.2)
    env = build("dmlab/tests/fake_hang")
    env.reset(0)
    (pid,) = env.engine_pids()
    env._engines[0].send("step", (0,) * 7, 4)
    env.close()
    assert not psutil.pid_exists(pid)


STUCK = """
import numpy as np
from configs.schema import EnvConfig
from envs.make import make_vec
env = make_vec(EnvConfig(id="dmlab/tests/fake_hang"))
env.reset(0)
print(*env.engine_pids(), flush=True)
env.step(np.zeros(1, np.int64))
"""


def test_a_stuck_engine_does_not_outlive_its_actor(tmp_path: Path) -> None:
    path = os.pathsep.join([str(FAKE.parents[4]), str(tmp_path / "lib")])
    actor = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
    )
    with actor:
        assert actor.stdout is not None
        engine = psutil.Process(int(actor.stdout.readline()))
        actor.kill()
    wait_until(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)


# --- the level cache -------------------------------------------------------------------------------


def test_the_cache_is_shared_by_all_actors(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    for actor_id in range(2):
        env = build(GOALS, num_envs=2, actor_id=actor_id, level_cache=str(folder))
        env.reset(actor_id)
        for _ in range(6 * (STEPS + 1)):  # the stand-in refuses a map that is not the right one
            env.step(everyone(FORWARD, env))
    files = list(folder.iterdir())
    assert len(files) == MAPS and all(file.suffix == ".pk3" for file in files)


def test_a_cache_keeps_what_it_was_given(tmp_path: Path) -> None:
    cache, made, fetched = LevelCache(str(tmp_path / "deep" / "maps")), tmp_path / "made", tmp_path / "got"
    assert cache.fetch("level/with:odd name", str(fetched)) is False and not fetched.exists()
    made.write_bytes(b"a map")
    cache.write("level/with:odd name", str(made))
    cache.write("level/with:odd name", str(made))
    assert cache.fetch("level/with:odd name", str(fetched)) is True and fetched.read_bytes() == b"a map"
    assert cache.fetch("another", str(fetched)) is False


def test_a_map_that_cannot_be_kept_is_an_error_and_leaves_no_part(tmp_path: Path) -> None:
    cache = LevelCache(str(tmp_path / "maps"))
    with pytest.raises(FileNotFoundError):
        cache.write("key", str(tmp_path / "missing"))
    assert list((tmp_path / "maps").iterdir()) == []


def test_an_unusable_cache_folder_is_named(build: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvError, match=f"FileExistsError.*{tmp_path}/file"):
        build(GOALS, level_cache=str(tmp_path / "file"))


# --- policies and configs ------------------------------------------------------------------------


def test_the_papers_network_fits(build: Build) -> None:
    """Arxiv 2305.19044: 3 x 72 x 96 is 3456 numbers behind the convolutions, and D = 257."""
    policy = Policy(build().spec, PolicyConfig(encoder="deep", core="elstm", hidden_size=512))
    assert policy.encoder.linear.weight.shape == (256, 3456)  # type: ignore[union-attr]
    assert {tuple(p.shape) for p in policy.core.recurrent_parameters()} == {(512, 257), (512,)}
    assert policy.policy_head.weight.shape == torch.Size([9, 512])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0}, r"env\.dmlab\.width = 0: needs at least 1"),
        ({"action_repeat": 0}, r"env\.dmlab\.action_repeat = 0"),
        ({"level_cache": "maps"}, r"env\.dmlab\.level_cache = 'maps': give an absolute path"),
        ({"dataset_path": "~/images"}, r"env\.dmlab\.dataset_path = '~/images': give an absolute path"),
        ({"level_cache": "dummy"}, "absolute"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DmlabConfig(**options)
    assert DmlabConfig(dataset_path="dummy", level_cache="/maps") != DmlabConfig()


def test_options_of_this_suite_are_refused_elsewhere() -> None:
    config = EnvConfig(id="cartpole/full", dmlab=DmlabConfig(width=64))
    with pytest.raises(EnvError, match=r"env\.dmlab\.width = 64 cannot take effect"):
        check_env(config)
    check_env(dataclasses.replace(config, id=ROOM))
