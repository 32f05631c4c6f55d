from __future__ import annotations

import pytest

from configs.presets import preset, preset_patterns
from configs.schema import Config, ConfigError, DmlabConfig
from configs.variants import VARIANTS
from envs.suites.dmlab.env import known_ids
from envs.suites.dmlab.levels import DMLAB30

LEVELS = ("rooms_watermaze", "lt_chasm", "memory_suite", "explore_goal_locations_train_small")


@pytest.mark.parametrize("arm", VARIANTS)
@pytest.mark.parametrize(
    "name", [*(f"dmlab_{level}_ARM{size}" for level in LEVELS for size in ("", "_cpu")), "dmlab30_ARM"]
)
def test_presets_build_and_round_trip(name: str, arm: str) -> None:
    name = name.replace("ARM", arm)
    config = preset(name)
    assert config.preset == name and config.env.id in known_ids(config.env)
    assert Config.from_json(config.to_json()) == config
    assert (config.policy.core, config.credit) == (VARIANTS[arm]["core"], VARIANTS[arm]["credit"])


@pytest.mark.parametrize(
    ("level", "steps"),
    [
        ("rooms_watermaze", 100_000_000),
        ("rooms_select_nonmatching_object", 30_000_000),
        ("rooms_keys_doors_puzzle", 100_000_000),
        ("natlab_fixed_large_map", 250_000_000),
    ],
)
def test_a_level_has_the_papers_settings(level: str, steps: int) -> None:
    config = preset(f"dmlab_{level}_rtrl")
    assert config.env.id == f"dmlab/{level}" and config.env.dmlab == DmlabConfig()
    assert (config.env.dmlab.height, config.env.dmlab.width, config.env.dmlab.action_repeat) == (72, 96, 4)
    assert (config.unroll_length, config.batch_size, config.num_streams) == (100, 32, 48)
    assert (config.policy.encoder, config.policy.features, config.policy.hidden_size) == ("deep", 256, 512)
    assert not config.policy.previous_action and config.policy.load_encoder is None
    assert (config.learning_rate, config.alpha, config.epsilon, config.momentum) == (6e-4, 0.99, 0.01, 0.0)
    assert (config.entropy_cost, config.baseline_cost, config.discounting) == (0.01, 0.5, 0.99)
    assert (config.grad_norm_clipping, config.reward_clipping) == (40.0, "abs_one")
    assert config.total_steps == steps


def test_single_language_levels_show_their_instructions_and_no_others_do() -> None:
    for level in DMLAB30:
        extras = preset(f"dmlab_{level}_tbptt").env.dmlab.extra_observations
        assert extras == ("INSTR" if level.startswith("language_") else "")
    assert preset("dmlab_language_execute_random_task_lstm").reward_clipping == "abs_one"


def test_a_small_machine_plays_the_same_level_with_little() -> None:
    full, small = (preset(f"dmlab_language_execute_random_task_rtrl{size}") for size in ("", "_cpu"))
    assert small.env.id == full.env.id and small.env.dmlab.extra_observations == "INSTR"
    assert small.num_streams == small.batch_size == 4
    assert small.time_limit_s == 300 and small.env.dmlab.reset_ahead is False


def test_all_levels_together_have_impalas_settings() -> None:
    config = preset("dmlab30_lstm")
    assert config.env.id == "dmlab/dmlab30"
    assert config.num_streams == 5 * 30
    assert config.total_steps * config.env.dmlab.action_repeat == 10**10
    assert config.reward_clipping == "soft_asymmetric" and config.env.dmlab.extra_observations == "INSTR"
    assert config.entropy_cost == pytest.approx(0.00334, abs=1e-5)
    assert config.learning_rate == pytest.approx(0.000319, abs=1e-6)
    assert config.ray.object_store_mib == 0, "chosen for the rollouts under way"


@pytest.mark.parametrize("name", ["dmlab_rtrl", "dmlab_rooms_watermaze", "dmlab_Rooms_rtrl", "dmlab31_rtrl"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown preset") as error:
        preset(name)
    assert "dmlab_<level>_" in str(error.value) and any("dmlab30_" in p for p in preset_patterns())
