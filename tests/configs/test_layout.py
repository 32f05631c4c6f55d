"""Which layout of actors is chosen, what may be asked for, and what of it is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import with_fields
from configs.layout import ACTOR_MIB, described, laid_out, streams_of
from configs.presets import preset
from configs.schema import Config, ConfigError, EnvConfig

PAPER = preset("atari_breakout_rtrl")


def layout(config: Config, cpus: int = 14) -> tuple[int, int, int]:
    laid = laid_out(config, cpus)
    assert laid_out(laid, 1) == laid, "what is chosen stays"
    return laid.num_streams, laid.num_actors, laid.env.num_envs


@pytest.mark.parametrize(
    ("cpus", "chosen"), [(1, (48, 1, 48)), (2, (48, 2, 24)), (14, (48, 14, 4)), (64, (48, 48, 1))]
)
def test_there_is_an_actor_for_each_cpu(cpus: int, chosen: tuple[int, int, int]) -> None:
    assert layout(PAPER, cpus) == chosen


def test_threads_memory_and_groups_count() -> None:
    env = dataclasses.replace(PAPER.env, num_threads=4)
    assert layout(dataclasses.replace(PAPER, env=env)) == (48, 3, 16)
    assert layout(dataclasses.replace(PAPER, actor_groups=2), 64) == (48, 24, 2)
    assert laid_out(PAPER, 64, memory_mib=20 * ACTOR_MIB).num_actors == 10
    assert laid_out(PAPER, 0, memory_mib=1.0).num_actors == 1
    assert layout(preset("memory_rtrl")) == (16, 1, 16), "inline, a single one"


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64))
def test_every_stream_has_one_carrier(streams: int, actors: int, cpus: int) -> None:
    for number in {0, min(actors, streams)}:
        config = Config(
            env=EnvConfig(id="any"), num_streams=streams, num_actors=number, batch_size=min(32, streams)
        )
        laid = laid_out(config, cpus)
        shares = [streams_of(laid, actor_id) for actor_id in range(laid.num_actors)]
        assert [stream for share in shares for stream in share] == list(range(streams))
        assert {len(share) for share in shares} <= {laid.env.num_envs, laid.env.num_envs - 1}
        assert max(map(len, shares)) == laid.env.num_envs and min(map(len, shares)) >= 1


def asked(name: str, *words: str) -> tuple[int, int, int]:
    return layout(with_fields(preset(name), list(words), "train"))


def test_what_scripts_ask_for() -> None:
    assert asked("atari_breakout_rtrl", "--num-actors", "30") == (48, 30, 2)
    assert asked("atari_breakout_rtrl", "--env.num-envs", "16") == (48, 3, 16)
    assert asked("atari_breakout_rtrl", "--num-actors=2", "--env.num_envs=16") == (32, 2, 16)
    assert asked("atari_breakout_rtrl", "--num-streams", "96", "--num_actors", "2") == (96, 2, 48)
    assert asked("memory_rtrl", "--env.num-envs", "32") == (32, 1, 32)
    assert asked("cartpole_rtrl", "--runtime", "inline", "--env.num-envs", "40") == (40, 1, 40)
    assert asked("cartpole_rtrl", "--num-actors", "1", "--num-actors", "2") == (32, 2, 16), "the last counts"


def test_one_that_is_asked_for_takes_the_place_of_the_one_that_was_saved() -> None:
    env = dataclasses.replace(PAPER.env, num_envs=16)
    saved = dataclasses.replace(PAPER, env=env, num_actors=3)
    assert layout(with_fields(saved, [], "train")) == (48, 3, 16)
    assert layout(with_fields(saved, ["--num-actors", "6"], "train")) == (48, 6, 8)
    assert layout(with_fields(saved, ["--env.num-envs", "24"], "train")) == (48, 2, 24)
    assert layout(with_fields(saved, ["--num-actors", "0"], "train")) == (48, 14, 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_actors": 49}, "num_actors = 49: there are num_streams = 48"),
        ({"num_actors": 3, "num_envs": 8}, "env.num_envs = 8: num_actors = 3 of so many slots"),
        ({"num_envs": 20}, "env.num_envs = 20: actors of so many slots do not make num_streams = 48"),
        ({"num_envs": 1, "actor_groups": 2}, "actor_groups = 2: must be 1, or 2 where"),
        ({"num_actors": 25, "actor_groups": 2}, "actor_groups = 2: must be 1, or 2 where"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, int], words: str) -> None:
    env = dataclasses.replace(PAPER.env, num_envs=changes.pop("num_envs", 0))
    with pytest.raises(ConfigError, match=words):
        dataclasses.replace(PAPER, env=env, **changes)


def test_a_config_of_before_has_the_streams_that_its_actors_had() -> None:
    old = json.loads(PAPER.to_json())
    del old["num_streams"]
    assert layout(
        Config.from_json(json.dumps(old | {"num_actors": 40, "env": old["env"] | {"num_envs": 2}}))
    ) == (
        80,
        40,
        2,
    )
    del old["num_actors"], old["env"]["num_envs"]
    assert Config.from_json(json.dumps(old)).num_streams == 48


def test_the_layout_is_told_in_a_line() -> None:
    assert described(PAPER, laid_out(PAPER, 14), "14 cores") == (
        "48 streams: 14 actors of 3 to 4 env slots, chosen for 14 cores (--num-actors sets another number)"
    )
    own = dataclasses.replace(PAPER, num_actors=48, env=dataclasses.replace(PAPER.env, num_threads=2))
    assert described(own, laid_out(own, 14), "") == "48 streams: 48 actors of 1 env slot on 2 threads"
