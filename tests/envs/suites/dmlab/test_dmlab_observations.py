"""Instructions, velocities and the like: parts of DeepMind Lab's observations, over real engine processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.inference import LocalInference
from actors.policy import Policy
from configs.presets import preset
from configs.schema import DmlabConfig, PolicyConfig
from envs.make import make_vec
from envs.spec import EnvError
from envs.suites.dmlab.env import DmlabVecEnv
from envs.suites.dmlab.observations import NUMBERS, ObservationParts
from envs.suites.gym.words import hash_words
from tests.envs.suites.dmlab.fake_deepmind_lab import INSTRUCTIONS, SEED_CHANNEL
from tests.envs.suites.dmlab.playing import SEED, STEPS, Build, number

pytestmark = pytest.mark.usefixtures("log")
Observe = Callable[..., DmlabVecEnv]


@pytest.fixture
def observe(build: Build) -> Observe:
    def make(extras: str, level: str = "rooms_watermaze", num_envs: int = 1) -> DmlabVecEnv:
        return build(f"dmlab/{level}", num_envs, extra_observations=extras, width=16, height=8)

    return make


def seeds(observation: dict[str, Any]) -> list[int]:
    """Of the episodes, as the stand-in draws them into the images."""
    return number(observation["image"], SEED)


def test_every_observation_is_a_part_of_its_own(observe: Observe, log: Path) -> None:
    names = ["INSTR", *NUMBERS]
    env = observe(", ".join(names))
    sizes = {
        **{"vel_trans": 3, "vel_rot": 3, "team_score": 2, "frames_remaining_at_60": 1},
        **{"debug_pos_trans": 3, "debug_pos_rot": 3, "debug_player_id": 1},
        **{
            "debug_flags_red": 5,
            "debug_flags_blue": 5,
            "debug_flags_red_home": 4,
            "debug_flags_blue_home": 4,
        },
    }
    shapes = {"image": (3, 8, 16), "instruction": (16,)} | {name: (size,) for name, size in sizes.items()}
    dtypes = {"image": "uint8", "instruction": "int64"} | dict.fromkeys(sizes, "float32")
    assert env.spec.observation_shape == shapes and env.spec.observation_dtype == dtypes
    for observation in (env.reset(0), env.step(np.zeros(1, np.int64)).observation):
        assert {name: part.shape[1:] for name, part in observation.items()} == shapes
        assert {name: str(part.dtype) for name, part in observation.items()} == dtypes
    assert json.loads(log.read_text())["observations"] == ["RGB_INTERLEAVED", *names]


def test_an_instruction_alone_is_the_image_and_the_instruction(observe: Observe) -> None:
    assert observe("INSTR").spec.observation_shape == {"image": (3, 8, 16), "instruction": (16,)}


def test_parts_belong_to_their_slots_and_the_last_ones_are_repeated_at_the_end(observe: Observe) -> None:
    env = observe("INSTR,VEL.TRANS", num_envs=2)
    observation = env.reset(4)
    kept, told_apart = [observation], 0
    for _ in range(4):
        said = [INSTRUCTIONS[seed % len(INSTRUCTIONS)] for seed in seeds(observation)]
        told_apart += said[0] != said[1]
        for index in range(STEPS + 1):
            np.testing.assert_array_equal(
                observation["instruction"], [hash_words(text, length=16) for text in said]
            )
            frame = 4 * min(index, STEPS - 1)
            np.testing.assert_array_equal(observation["vel_trans"], np.full((2, 3), frame))
            assert observation["image"][:, SEED_CHANNEL, 1, 0].tolist() == [frame] * 2
            step = env.step(np.zeros(2, np.int64))
            assert step.terminated.tolist() == [index == STEPS - 1] * 2
            observation = step.observation
            kept.append(observation)
    assert told_apart, "the seed above must give the slots different instructions"
    for name in observation:
        assert not any(np.shares_memory(a[name], b[name]) for i, a in enumerate(kept) for b in kept[i + 1 :])


def test_what_the_caller_does_to_a_part_is_not_repeated(observe: Observe) -> None:
    env = observe("VEL.ROT")
    env.reset(3)
    steps = [env.step(np.zeros(1, np.int64)) for _ in range(STEPS - 1)]
    steps[-1].observation["vel_rot"][:] = -1.0
    final = env.step(np.zeros(1, np.int64))
    assert final.terminated.all() and (final.observation["vel_rot"] == 4 * (STEPS - 1)).all()


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (
            "INSTR,VEL",
            r"'INSTR,VEL': there is no 'VEL'; .* there are INSTR, VEL\.TRANS, .*DEBUG\.FLAGS\.BLUE_HOME",
        ),
        ("instr", "there is no 'instr'"),
        ("INSTR,", "there is no ''"),
        ("RGB_INTERLEAVED", "besides the image, which is always there"),
        ("DEBUG.PLAYERS.NAME", "there is no 'DEBUG.PLAYERS.NAME'"),
        ("INSTR,VEL.ROT, INSTR", "INSTR comes twice"),
    ],
)
def test_names_that_do_not_exist_are_refused_before_any_engine_starts(
    observe: Observe, log: Path, listed: str, words: str
) -> None:
    with pytest.raises(EnvError, match=rf"env\.dmlab\.extra_observations = .*{words}"):
        observe(listed)
    assert not log.exists()


def test_a_level_without_the_observation_says_so(observe: Observe) -> None:
    with pytest.raises(EnvError, match=r"empty_room_test, stream 0.*Unknown observation 'VEL\.TRANS'"):
        observe("VEL.TRANS", level="tests/empty_room_test")


def test_a_part_of_another_shape_is_refused() -> None:
    parts = ObservationParts(DmlabConfig(extra_observations="TEAM.SCORE", width=16, height=8))
    arrays = parts.zeros(1)
    observed = {"RGB_INTERLEAVED": np.zeros((8, 16, 3), np.uint8), "TEAM.SCORE": np.ones(1)}
    with pytest.raises(
        EnvError, match=r"level, slot 3: the engine's TEAM\.SCORE has shape \[1\], expected \[2\]"
    ):
        parts.write(arrays, 0, observed, "level, slot 3")


def test_a_policy_reads_the_instruction_and_the_numbers(observe: Observe) -> None:
    env = observe("INSTR,VEL.TRANS,VEL.ROT", num_envs=2)
    torch.manual_seed(0)
    policy = Policy(env.spec, PolicyConfig(encoder="deep", core="elstm", hidden_size=16))
    observation = env.reset(0)
    inference = LocalInference(policy, None, seed=0)

    def logits(**changes: np.ndarray) -> np.ndarray:
        group = inference.open(2)
        inference.submit(group, observation | changes, np.zeros(2, np.float32), np.ones(2, np.bool_))
        return inference.take(group).logits

    plain = logits()
    instruction = np.stack([hash_words("another sentence"), observation["instruction"][1]])
    told = logits(instruction=instruction)
    assert (told[0] != plain[0]).any() and (told[1] == plain[1]).all()
    turned = observation["vel_rot"].copy()
    turned[1, 2] = 50.0
    moved = logits(vel_rot=turned)
    assert (moved[1] != plain[1]).any() and (moved[0] == plain[0]).all()


def test_the_network_of_a_language_level_is_impalas_with_the_instruction_beside_the_image() -> None:
    config = preset("dmlab_language_execute_random_task_rtrl")
    env = make_vec(config.env)
    env.close()
    policy = Policy(env.spec, config.policy)
    widths = {parameter.shape[-1] for parameter in policy.core.recurrent_parameters() if parameter.ndim == 2}
    assert widths == {256 + 64 + 1}, "features of the image, of the words, and the reward"
