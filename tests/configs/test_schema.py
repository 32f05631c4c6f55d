"""The config tree: every guard trips with a message that names the field, and JSON round-trips."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from configs.presets import preset, preset_patterns
from configs.schema import Config, ConfigError, EnvConfig, PolicyConfig, WandbConfig
from configs.variants import VARIANTS

PRESETS = [
    *(
        f"atari_{game}_{arm}{cpu}"
        for game in ("breakout", "ms_pacman")
        for arm in VARIANTS
        for cpu in ("", "_cpu")
    ),
    *(f"cartpole_{full}{arm}" for arm in VARIANTS for full in ("", "full_")),
    *(f"memory_{arm}" for arm in VARIANTS),
]


@pytest.mark.parametrize("name", PRESETS)
def test_preset_builds_and_round_trips(name: str) -> None:
    config = preset(name)
    assert Config.from_json(config.to_json()) == config
    arm = next(arm for arm in VARIANTS if f"_{arm}" in name)
    assert (config.policy.core, config.credit) == (VARIANTS[arm]["core"], VARIANTS[arm]["credit"])


def test_atari_presets_hold_the_papers_settings() -> None:
    config = preset("atari_ms_pacman_rtrl")
    assert config.env.id == "ALE/MsPacman-v5"
    assert (config.unroll_length, config.batch_size, config.num_streams) == (50, 32, 48)
    assert (config.policy.encoder, config.policy.hidden_size, config.policy.forget_bias) == ("deep", 256, 0.0)
    assert (config.learning_rate, config.alpha, config.epsilon) == (6e-4, 0.99, 0.01)
    assert (config.entropy_cost, config.baseline_cost, config.discounting) == (0.01, 0.5, 0.99)
    assert (config.grad_norm_clipping, config.total_steps) == (40.0, 200_000_000)


@pytest.mark.parametrize("name", ["atari_breakout", "atari_breakout_rtlr", "cartpole", "breakout_rtrl", ""])
def test_unknown_preset_lists_the_families(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown preset") as error:
        preset(name)
    assert all(pattern in str(error.value) for pattern in preset_patterns())


def test_near_miss_is_suggested() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'atari_breakout_rtrl'"):
        preset("atari_breakout_rtlr")


def _config(**changes: Any) -> Config:
    return dataclasses.replace(preset("cartpole_rtrl"), **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 33}, ["batch_size = 33", "can never be filled", "num_streams = 32"]),
        ({"batch_size": 0}, ["batch_size = 0", "at least 1"]),
        ({"unroll_length": 0}, ["unroll_length = 0"]),
        ({"num_streams": 0}, ["num_streams = 0", "at least 1"]),
        ({"num_actors": -1}, ["num_actors = -1", "cannot be negative"]),
        ({"num_actors": 33}, ["num_actors = 33", "num_streams = 32 env slots"]),
        ({"actor_groups": 3}, ["actor_groups = 3", "must be 1, or 2"]),
        ({"actor_groups": 2, "num_actors": 17}, ["actor_groups = 2", "fewer num_actors"]),
        ({"total_steps": 0}, ["total_steps = 0"]),
        ({"learning_rate": 0.0}, ["learning_rate = 0.0", "positive"]),
        ({"learning_rate": float("nan")}, ["learning_rate = nan"]),
        ({"reward_scale": 0.0}, ["reward_scale = 0.0", "positive"]),
        ({"epsilon": -1.0}, ["epsilon = -1.0"]),
        ({"grad_norm_clipping": 0.0}, ["grad_norm_clipping"]),
        ({"discounting": 1.5}, ["discounting = 1.5", "[0, 1]"]),
        ({"lambda_": -0.1}, ["lambda_ = -0.1"]),
        ({"alpha": 1.0}, ["alpha = 1.0"]),
        ({"baseline_cost": -1.0}, ["baseline_cost = -1.0"]),
        ({"entropy_cost": -1.0}, ["entropy_cost = -1.0"]),
        ({"clip_rho_threshold": 0.0}, ["clip_rho_threshold = 0.0", "None for no clip"]),
        ({"time_limit_s": 0.0}, ["time_limit_s = 0.0"]),
        ({"max_policy_lag": 0}, ["max_policy_lag = 0"]),
        ({"seed": -1}, ["seed = -1"]),
        ({"momentum": 0.9, "optimizer": "adam"}, ["momentum = 0.9", "no effect"]),
        ({"policy": PolicyConfig(core="lstm")}, ["credit = 'rtrl'", "one of elstm, ", "tbptt"]),
        ({"policy": PolicyConfig(core="felstm")}, ["credit = 'rtrl'", "credit = 'snap1', approximate"]),
        ({"policy": PolicyConfig(core="felstm"), "credit": "immediate"}, ["credit = 'immediate'", "snap1"]),
        ({"credit": "snap1"}, ["credit = 'snap1'", "SnAp-1 is exact RTRL: set credit = 'rtrl'"]),
        ({"policy": PolicyConfig(core="gru"), "credit": "snap1"}, ["credit = 'snap1'", "felstm, not 'gru'"]),
    ],
)
def test_bad_value_names_field_value_and_remedy(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        _config(**changes)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"num_envs": -1},
        {"num_threads": -1},
        {"max_episode_frames": 0},
        {"sticky_actions": 1.0},
        {"noop_max": -1},
    ],
)
def test_bad_env_value_names_the_field(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"env.{next(iter(changes))} = "):
        EnvConfig(**{"id": "ALE/Pong-v5", **changes})


def test_a_forget_bias_is_a_number_or_spread() -> None:
    base = preset("memory_rtrl")
    for value in ("spread", 3.0):
        config = dataclasses.replace(base, policy=dataclasses.replace(base.policy, forget_bias=value))
        assert Config.from_json(config.to_json()).policy.forget_bias == value
    text = base.to_json().replace(f'"forget_bias": {json.dumps(base.policy.forget_bias)}', '"forget_bias": 3')
    assert Config.from_json(text).policy.forget_bias == 3.0
    with pytest.raises(ConfigError, match=r"forget_bias = 'wide': choose one of 'spread', float"):
        Config.from_json(text.replace('"forget_bias": 3', '"forget_bias": "wide"'))
    with pytest.raises(ConfigError, match=r"policy.forget_bias = 1e\+39: needs 'spread'"):
        PolicyConfig(core="elstm", forget_bias=1e39)


def test_a_seed_is_what_pytorch_takes() -> None:
    assert dataclasses.replace(preset("memory_rtrl"), seed=2**62).seed == 2**62
    with pytest.raises(ConfigError, match=r"seed = \d+: is more than"):
        dataclasses.replace(preset("memory_rtrl"), seed=2**62 + 1)


def _edited(**changes: Any) -> str:
    return json.dumps(json.loads(preset("cartpole_rtrl").to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["not JSON"]),
        ("[]", ["expected an object"]),
        (_edited(no_such_field=1), ["unknown field 'no_such_field'"]),
        (_edited(env={}), ["config.env", "'id' is missing"]),
        (_edited(batch_size="32"), ["config.batch_size = '32'", "expected int"]),
        (_edited(batch_size=True), ["config.batch_size = True"]),
        (_edited(runtime="threads"), ["config.runtime = 'threads'", "'ray', 'inline'"]),
        (_edited(batch_size=33), ["batch_size = 33"]),
        (_edited(wandb={"mode": "sometimes"}), ["config.wandb.mode = 'sometimes'", "'online', 'offline'"]),
    ],
)
def test_bad_json_is_refused(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        Config.from_json(text)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("mode", [None, "online", "disabled"])
def test_one_of_some_words_or_nothing(mode: Any) -> None:
    config = _config(wandb=WandbConfig(mode=mode))
    assert Config.from_json(config.to_json()) == config


def test_an_int_is_taken_for_a_float_and_stays_equal() -> None:
    assert Config.from_json(_edited(discounting=1)).discounting == 1.0
