"""The inline fleet and environments that fail: every fault is a FleetError that names the environment."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from actors import collect
from actors.fleet.fleet import FleetError, InlineFleet, incarnations
from actors.policy import Policy
from configs.layout import laid_out
from configs.learners import WHOLE, Part, part_of
from configs.presets import preset
from configs.schema import Config, EnvConfig
from envs.make import env_spec, make_vec
from learner.publish import LocalPublisher
from tests.rude_env import RUDE_VARIABLE

ID = "tests.rude_env:Rude-v0"


def _config() -> Config:
    base = preset("cartpole_rtrl")
    env = dataclasses.replace(base.env, id=ID, num_envs=2)
    return dataclasses.replace(
        base, env=env, runtime="inline", batch_size=4, num_streams=4, num_actors=2, unroll_length=5
    )


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("exit-make", "making it raised SystemExit"),
        ("exit-reset", r"reset\(\) raised SystemExit"),
        ("exit-step", r"step\(\) raised SystemExit"),
        ("nan", r"observation\['index'\] of slot 0 is .*nan.*, expected a finite number at \[1\]"),
        ("inf-reward", "reward at step 7 is inf in slot 0"),
    ],
)
def test_an_environment_that_fails_is_a_failure_of_its_actor_with_its_name(
    way: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, publisher = _config(), LocalPublisher()
    torch.manual_seed(0)
    publisher.publish(Policy(env_spec(config.env), config.policy), 0)
    monkeypatch.setenv(RUDE_VARIABLE, way)
    with pytest.raises(FleetError, match=f"actor 0: {ID}: {words}"):
        fleet = InlineFleet(config, publisher.source)
        for _ in range(6):
            fleet.next_rollout(1.0)


def test_closing_ends_every_actor_whatever_closing_raises(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config, publisher = _config(), LocalPublisher()
    monkeypatch.setenv(RUDE_VARIABLE, "close")
    publisher.publish(Policy(env_spec(config.env), config.policy), 0)
    fleet = InlineFleet(config, publisher.source)
    fleet.next_rollout(1.0)
    caplog.clear()
    fleet.close()
    told = [record for record in caplog.records if "it does not want to be closed" in record.message]
    assert len(told) == config.num_actors * config.env.num_envs


def test_parts_of_a_run_have_its_streams_and_its_first_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever learns from them: the numbers of streams, by which levels are dealt, and all randomness."""
    made: list[int] = []

    def seen(env: EnvConfig, *, first_stream: int) -> Any:
        made.append(first_stream)
        return make_vec(env, first_stream=first_stream)

    monkeypatch.setattr(collect, "make_vec", seen)
    base = preset("cartpole_rtrl")
    sizes: Any = {"num_streams": 12, "num_actors": 6, "batch_size": 12}
    whole = laid_out(dataclasses.replace(base, runtime="ray", num_learners=3, **sizes), 6)
    publisher = LocalPublisher()
    publisher.publish(Policy(env_spec(whole.env), whole.policy), 0)
    found: list[list[int]] = []
    for config, parts in (
        (dataclasses.replace(whole, num_learners=1), [WHOLE]),
        (part_of(whole), [Part(number, 3) for number in range(3)]),
    ):
        made.clear()
        lives: list[int] = []
        for part in parts:
            fleet = InlineFleet(config, publisher.source, part=part)
            for _ in range(config.num_actors):
                rollout = fleet.next_rollout(1.0)
                assert rollout is not None
                lives.append(rollout.incarnation)
        found.append([*made, *lives])
    assert found[0] == found[1] and found[0][:6] == [0, 2, 4, 6, 8, 10]


def test_lives_that_follow_are_each_parts_own() -> None:
    config = dataclasses.replace(_config(), num_actors=2)
    parts = [incarnations(config, 0, Part(number, 3)) for number in range(3)]
    lives = [next(part) for part in parts for _ in range(10)]
    assert len(set(lives)) == len(lives)
