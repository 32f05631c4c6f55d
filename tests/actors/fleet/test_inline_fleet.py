"""The inline fleet and environments that fail: every fault is a FleetError that names the environment."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from actors.fleet.fleet import FleetError, InlineFleet
from actors.policy import Policy
from configs.presets import preset
from configs.schema import Config
from envs.make import env_spec
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
