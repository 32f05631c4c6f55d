from __future__ import annotations

import dataclasses

import pytest
import tyro

from configs.presets import preset
from configs.schema import Config, ConfigError, EnvConfig, MemoryConfig
from configs.variants import VARIANTS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length_min": 0}, r"env\.memory\.length_min = 0: needs at least 1"),
        ({"length_max": 19}, r"env\.memory\.length_max = 19: below env\.memory\.length_min = 20"),
        ({"quiet": 21}, r"env\.memory\.quiet = 21: longer than the shortest corridor.*20"),
        ({"quiet": -1}, r"env\.memory\.quiet = -1: needs at least 0"),
        ({"num_cues": 1}, r"env\.memory\.num_cues = 1: needs at least 2"),
        ({"symbols": 0}, r"env\.memory\.symbols = 0: needs at least 1"),
        ({"delay": -1}, r"env\.memory\.delay = -1"),
        ({"interval_min": 3}, r"env\.memory\.interval_min = 3: needs at least 4"),
        ({"interval_max": 6}, r"env\.memory\.interval_max = 6: below"),
        ({"pause_min": 1}, r"env\.memory\.pause_min = 1"),
        ({"pause_max": 79}, r"env\.memory\.pause_max = 79: below env\.memory\.pause_min = 80"),
        ({"distractors": -1}, r"env\.memory\.distractors = -1"),
        ({"episode_steps": 0}, r"env\.memory\.episode_steps = 0"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MemoryConfig(**options)


def test_the_options_survive_json_and_the_command_line() -> None:
    config = Config(
        env=EnvConfig(id="memory/tmaze", memory=MemoryConfig(length_max=40, random_phase=False)),
        num_streams=32,
    )
    assert Config.from_json(config.to_json()) == config
    parsed = tyro.cli(
        EnvConfig, args=["--id", "memory/copy", "--memory.delay", "7", "--memory.no-random-phase"]
    )
    assert parsed.memory == MemoryConfig(delay=7, random_phase=False)


@pytest.mark.parametrize("arm", VARIANTS)
def test_memory_presets_differ_in_core_and_credit_alone(arm: str) -> None:
    config, rtrl = preset(f"memory_{arm}"), preset("memory_rtrl")
    assert config.env == rtrl.env == EnvConfig(id="memory/tmaze")
    assert config.unroll_length <= config.env.memory.quiet + 1  # no unroll links cue and choice
    assert config.grad_norm_clipping == config.steps_per_update  # of the summed loss: 1 of its mean
    policy = dataclasses.replace(rtrl.policy, core=config.policy.core)
    assert config == dataclasses.replace(
        rtrl, preset=f"memory_{arm}", policy=policy, credit=VARIANTS[arm]["credit"]
    )


def test_a_near_miss_of_a_memory_preset_is_suggested() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'memory_tbptt'"):
        preset("memory_tbpt")
