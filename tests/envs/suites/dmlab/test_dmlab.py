"""The DeepMind Lab adapter, real processes included, over the stand-in of fake_deepmind_lab.py."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from actors.policy import Policy
from configs.schema import ConfigError, DmlabConfig, EnvConfig, PolicyConfig
from envs.make import check_env, env_spec
from envs.spec import EnvError, VecEnv
from envs.suites.dmlab.actions import ACTIONS
from envs.suites.dmlab.levels import MEMORY_SUITE
from tests.envs.suites.dmlab.fake_deepmind_lab import EPISODE_FRAMES
from tests.envs.suites.dmlab.playing import (
    BACKWARD,
    FORWARD,
    FRAME,
    ROOM,
    SEED,
    STEPS,
    Build,
    everyone,
    logged,
    number,
)

pytestmark = pytest.mark.usefixtures("log")


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
    seeds = [number(env.reset(7), SEED)]
    for _ in range(3):
        earned = np.zeros(2)
        for index in range(STEPS):
            step = env.step(everyone(FORWARD, env))
            earned += step.reward
            assert step.terminated.tolist() == step.game_over.tolist() == [index == STEPS - 1] * 2
            assert not step.truncated.any()
            # There is no observation after the end: the last one comes again.
            assert number(step.observation, FRAME) == [4 * min(index + 1, STEPS - 1)] * 2
        assert earned.tolist() == [EPISODE_FRAMES] * 2
        first = env.step(everyone(FORWARD, env))  # the action is ignored
        assert not first.reward.any() and not (first.terminated | first.truncated).any()
        assert number(first.observation, FRAME) == [0, 0]
        seeds.append(number(first.observation, SEED))
    assert len({seed for row in seeds for seed in row}) == 8


def test_actions_reach_the_engine_and_slots_end_apart(build: Build) -> None:
    env = build(num_envs=2, action_repeat=1)
    env.reset(0)
    step = env.step(np.array([FORWARD, BACKWARD]))
    assert step.reward.tolist() == [1.0, 0.0] and env.spec.frames_per_step == 1
    env._ended[1] = True  # slot 1 begins anew, while slot 0 goes on
    assert number(env.step(everyone(FORWARD, env)).observation, FRAME) == [2, 0]


@pytest.mark.parametrize(("name", "count"), [("impala", 9), ("popart", 15)])
def test_every_action_is_one_that_the_engine_takes(build: Build, name: str, count: int) -> None:
    assert len(set(ACTIONS[name])) == len(ACTIONS[name]) == count
    env = build(actions=name, action_repeat=1)
    assert env.spec.num_actions == count
    env.reset(0)
    rewards = [env.step(np.array([action])).reward[0] for action in range(count)]
    assert rewards == [float(action[3] == 1) for action in ACTIONS[name]]


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
        ({"width": 0}, r"env\.dmlab\.width = 0: needs a multiple of 4"),
        ({"height": 74}, r"env\.dmlab\.height = 74: needs a multiple of 4"),
        ({"num_maps": -1}, r"env\.dmlab\.num_maps = -1"),
        ({"num_maps": 2**31}, r"env\.dmlab\.num_maps = 2147483648"),
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
