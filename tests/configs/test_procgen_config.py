from __future__ import annotations

from typing import Any

import pytest

from configs.presets import preset
from configs.schema import Config, ConfigError, ProcgenConfig
from configs.variants import VARIANTS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": -1}, r"env\.procgen\.num_levels = -1: cannot be negative"),
        ({"num_levels": 5, "start_level": -1}, r"env\.procgen\.start_level = -1: cannot be negative"),
        (
            {"start_level": 5},
            r"env\.procgen\.start_level = 5: has no effect with env\.procgen\.num_levels = 0",
        ),
        (
            {"num_levels": 2, "start_level": 2**31 - 2},
            r"env\.procgen\.start_level = 2147483646: with env\.procgen\.num_levels = 2 it passes the last",
        ),
        (
            {"num_levels": 5, "distribution_mode": "exploration"},
            r"env\.procgen\.num_levels = 5: .*'exploration' is a single level",
        ),
    ],
)
def test_a_bad_level_set_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProcgenConfig(**options)


def test_the_last_level_can_be_named() -> None:
    assert ProcgenConfig(num_levels=1, start_level=2**31 - 2).start_level == 2147483646


@pytest.mark.parametrize("arm", VARIANTS)
def test_the_presets_are_the_papers_and_differ_in_the_arm_only(arm: str) -> None:
    config, rtrl = preset(f"procgen_chaser_{arm}"), preset("procgen_chaser_rtrl")
    assert config.env == rtrl.env and config.env.id == "procgen/chaser"
    levels = config.env.procgen
    assert (levels.num_levels, levels.start_level, levels.distribution_mode) == (500, 0, "hard")
    assert (config.num_streams, config.unroll_length, config.batch_size) == (48, 50, 32)
    assert (config.policy.core, config.credit) == (VARIANTS[arm]["core"], VARIANTS[arm]["credit"])
    assert (config.policy.encoder, config.policy.hidden_size) == ("deep", 256)
    assert (config.optimizer, config.learning_rate, config.total_steps) == ("rmsprop", 6e-4, 200_000_000)


@pytest.mark.parametrize("name", ["procgen_maze_rtrl", "procgen_maze_lstm_cpu"])
def test_presets_go_through_json(name: str) -> None:
    config = preset(name)
    assert config.preset == name and config.env.id == "procgen/maze"
    assert Config.from_json(config.to_json()) == config


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'procgen_chaser_rtrl'"):
        preset("procgen_chasr_rtlr")
