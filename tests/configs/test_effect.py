"""Every setting of the schema takes effect whatever the others are, or is refused where it does not."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any, get_args, get_type_hints

import pytest

from command_line import with_fields
from configs.core import RotationConfig
from configs.identity import changes, check_weights
from configs.ppo import PpoConfig
from configs.presets import preset
from configs.schema import Config, ConfigError, EnvConfig
from configs.serial import leaves
from envs.make import check_env
from envs.spec import EnvError

BASE = preset("cartpole_rtrl")

ALWAYS = {
    *("preset", "seed", "run_dir", "runtime", "device", "learner_threads", "total_steps", "time_limit_s"),
    *("num_streams", "num_actors", "unroll_length", "batch_size", "publish_interval", "max_policy_lag"),
    *(
        "objective",
        "credit",
        "discounting",
        "baseline_cost",
        "entropy_cost",
        "reward_clipping",
        "reward_scale",
    ),
    *("actor_groups", "actor_device"),
    "compute.tf32",
    *("normalise_rewards", "policy.normalise_observations"),
    *("policy.gaussian.deviation", "policy.gaussian.bounds"),
    *("optimizer", "learning_rate", "epsilon", "grad_norm_clipping"),
    *("log_interval_s", "log_interval_steps"),
    *("policy.encoder", "policy.core", "policy.previous_action"),
    *("policy.previous_reward", "policy.load"),
    *("checkpoint.interval_s", "checkpoint.interval_steps", "checkpoint.keep_last"),
    "wandb.mode",
}
"""And `eval.*`, the protocol of `launch.py eval` too; `env.*` is each suite's. What an environment's actions
and observations rule out, the policy refuses (tests/actors/policy)."""

INLINE, ADAM, TBPTT = "--runtime inline", "--optimizer adam", "--credit tbptt"
NO_ENCODER = "--policy.encoder none"
RTU = "--policy.core rtu"
NO_CORE = "--policy.core none --credit tbptt"
SETTINGS: dict[str, tuple[str, str]] = {
    "alpha": ("--alpha 0.9", ADAM),
    "momentum": ("--momentum 0.9", ADAM),
    "encoder_lr_scale": ("--encoder-lr-scale 0.1", NO_ENCODER),
    **{
        f"clip_{name}_threshold": (f"--clip-{name.replace('_', '-')}-threshold 2", "--objective ppo")
        for name in ("rho", "pg_rho", "c")
    },
    **{
        f"ppo.{name}": (f"--ppo.{name.replace('_', '-')} {value}", "--objective vtrace")
        for name, value in (
            *(("clip", "0.1"), ("value_clip", "0.2"), ("epochs", "2"), ("minibatches", "2")),
            ("chunk_length", "32"),
        )
    },
    "ppo.targets": ("--ppo.targets vtrace", "--objective vtrace"),
    "ppo.normalise_advantages": ("--ppo.no-normalise-advantages", "--objective vtrace"),
    "ppo.fresh_gradient": ("--ppo.fresh-gradient", "--objective ppo --ppo.chunk-length 64"),
    "ppo.fresh_targets": ("--ppo.fresh-targets", "--objective ppo --ppo.epochs 1"),
    "lambda_": ("--lambda_ 0.5", "--unroll-length 1"),
    "diagnostics_interval": ("--diagnostics-interval 3", TBPTT),
    "compute.encoder_dtype": ("--compute.encoder-dtype bfloat16", "--policy.encoder mlp"),
    "compute.actor_encoder_dtype": ("--compute.actor-encoder-dtype bfloat16", NO_ENCODER),
    "compute.compile_encoder": ("--compute.compile-encoder", NO_ENCODER),
    "policy.features": ("--policy.features 8", NO_ENCODER),
    "policy.hidden_size": ("--policy.hidden-size 8", f"{NO_CORE}"),
    "policy.forget_bias": ("--policy.forget-bias 2", RTU),
    "policy.num_layers": ("--policy.num-layers 2", NO_CORE),
    **{
        f"policy.rotation.{name}": (
            f"--policy.rotation.{name.replace('_', '-')} {value}",
            "--policy.core mingru",
        )
        for name, value in (
            *(("activation", "tanh"), ("r_min", "0.9"), ("r_max", "0.9"), ("max_phase", "1")),
            *(("radius", "exp"), ("angle", "direct")),
        )
    },
    "policy.rotation.projection": ("--policy.rotation.projection", RTU),
    "policy.freeze_core": ("--policy.freeze-core", NO_CORE),
    "policy.freeze_encoder": ("--policy.freeze-encoder", NO_ENCODER),
    "policy.bypass": ("--policy.bypass", NO_ENCODER),
    "policy.load_encoder": ("--policy.load-encoder x", NO_ENCODER),
    "rtrl.boundary": ("--rtrl.no-boundary", TBPTT),
    "rtrl.fresh_traces": ("--rtrl.fresh-traces", TBPTT),
    "rtrl.staleness_interval": ("--rtrl.staleness-interval 4", TBPTT),
    "rtrl.history_rollouts": ("--rtrl.history-rollouts 4", "--rtrl.staleness-interval 0"),
    "rtrl.max_trace_norm": ("--rtrl.max-trace-norm 5", "--rtrl.no-boundary"),
    "wandb.project": ("--wandb.project x", "--wandb.mode disabled"),
    "wandb.entity": ("--wandb.entity x", "--wandb.mode disabled"),
    "wandb.group": ("--wandb.group x", "--wandb.mode disabled"),
    "wandb.name": ("--wandb.name x", "--wandb.mode disabled"),
    "wandb.log_checkpoint": ("--wandb.log-checkpoint", "--wandb.mode disabled"),
    "prefetch": ("--prefetch on", INLINE),
    "num_learners": ("--num-learners 2", INLINE),
    "ray.address": ("--ray.address a:1", INLINE),
    "ray.object_store_mib": ("--ray.object-store-mib 256", INLINE),
    **{
        f"ray.{field.name}": (f"--ray.{field.name.replace('_', '-')} 4", INLINE)
        for field in dataclasses.fields(BASE.ray)
        if field.name not in ("address", "object_store_mib", "actor_gpus")
    },
    "ray.follow_cluster": ("--ray.follow-cluster", INLINE),
    "ray.settle_s": ("--ray.settle-s 3", ""),
    "ray.actor_gpus": ("--ray.actor-gpus 0.5", "--actor-device cpu"),
}
"""What sets each of the others, and under which other settings it has no effect."""
ALIVE = {
    **{f"policy.rotation.{field.name}": RTU for field in dataclasses.fields(RotationConfig)},
    "policy.rotation.projection": "--policy.core linear_rtu",
    **{
        f"ppo.{field.name}": "--objective ppo --ppo.chunk-length 16"
        for field in dataclasses.fields(PpoConfig)
    },
    "ray.settle_s": "--ray.follow-cluster",
    "alpha": "--optimizer rmsprop",
    "momentum": "--optimizer rmsprop",
    "policy.freeze_core": TBPTT,
    "compute.encoder_dtype": "--policy.encoder auto",
    "compute.actor_encoder_dtype": "--policy.encoder auto",
    "rtrl.history_rollouts": "--rtrl.fresh-traces",
}
"""Under which it has one, where the preset alone does not do."""


def refusal(words: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """What is said against a command line; tyro prints what a dataclass says, and ends."""
    with pytest.raises((ConfigError, SystemExit)) as error:
        with_fields(BASE, words, "train")
    assert not isinstance(error.value, SystemExit) or error.value.code == 2
    printed = " ".join(capfd.readouterr().err.replace("│", " ").split())
    return f"{error.value} {printed}"


def test_every_setting_is_asked_after() -> None:
    names = {name for name, _ in leaves(BASE) if not name.startswith(("env.", "eval."))}
    assert names == ALWAYS | set(SETTINGS)
    assert not ALWAYS & set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_without_effect_is_refused_and_else_taken(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given, others = SETTINGS[name]
    with_fields(BASE, [*given.split(), *ALIVE.get(name, "").split()], "train")
    with_fields(BASE, others.split(), "train")  # nothing is asked for that has no effect
    assert f"{name} = " in refusal([*others.split(), *given.split()], capfd)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--encoder-lr-scale=0.1 --policy.freeze-encoder",
            "encoder_lr_scale = 0.1: has no effect with policy.fr",
        ),
        (
            "--ray.address a:1 --ray.object_store_mib 500",
            "ray.object_store_mib = 500: has no effect with ray.a",
        ),
        (
            "--unroll-length 1 --clip-c-threshold 2",
            "clip_c_threshold = 2.0: has no effect with unroll_length",
        ),
        (f"--objective ppo {NO_CORE} --ppo.chunk-length 8 --ppo.fresh-gradient", "ppo.fresh_gradient = True"),
        (
            "--objective ppo --ppo.epochs 1 --ppo.chunk-length 8 --ppo.fresh-gradient",
            "ppo.fresh_gradient = T",
        ),
        (
            "--objective ppo --ppo.epochs 1 --ppo.minibatches 1 --ppo.value-clip 1",
            "ppo.value_clip = 1.0: has",
        ),
        ("--objective ppo --clip-c-threshold 2", "clip_c_threshold = 2.0: has no effect with ppo.targets"),
        (
            "--objective ppo --ppo.targets vtrace --clip-pg-rho-threshold 2",
            "clip_pg_rho_threshold = 2.0: has no effect",
        ),
        ("--objective ppo --ppo.chunk-length 7", "ppo.chunk_length = 7: must divide unroll_length = 64"),
        ("--objective ppo --ppo.minibatches 5", "ppo.minibatches = 5: must divide the batch's 32 sub-chunks"),
        ("--objective ppo --rtrl.no-boundary", "rtrl.boundary = False: needs objective = 'vtrace'"),
        ("--objective ppo --rtrl.staleness-interval 4", "rtrl.staleness_interval = 4: compares one gradient"),
        ("--ppo.fresh-gradient", "ppo.fresh_gradient = True: has no effect with objective = 'vtrace'"),
        (
            f"{RTU} --policy.load x --policy.rotation.r-min 0.9",
            "policy.rotation.r_min = 0.9: has no effect with policy.load = 'x'",
        ),
        ("--runtime inline --prefetch off", "prefetch = 'off': has no effect with runtime = 'inline'"),
        (f"{NO_CORE} --policy.forget-bias 2", "has no effect with policy.core = 'none', which has no forget"),
        (
            "--policy.load x --policy.forget-bias 2",
            "policy.forget_bias = 2.0: has no effect with policy.load",
        ),
        ("--policy.load x --policy.load-encoder y", "give one of the two"),
    ],
)
def test_other_pairs(words: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert said in refusal(words.split(), capfd)


def test_what_a_preset_holds_is_nobodys_mistake() -> None:
    """Its options of Ray, its width of a core that is switched off."""
    assert BASE.ray != Config(env=BASE.env, num_streams=32).ray
    for words in (INLINE, NO_ENCODER, ADAM):
        with_fields(BASE, words.split(), "train")


def test_what_changes_nothing_makes_no_other_run() -> None:
    gated, other = BASE, with_fields(BASE, ["--policy.forget-bias", "2"], "train")
    assert changes(gated, other) == {"policy.forget_bias": (1.0, 2.0)}
    with pytest.raises(ConfigError, match=r"policy.forget_bias = 2.0: was 1.0 when"):
        check_weights(gated, other)
    kept, none = (with_fields(base, RTU.split(), "train") for base in (other, BASE))
    assert (kept.policy.forget_bias, none.policy.forget_bias) == (2.0, 1.0) and changes(kept, none) == {}
    check_weights(kept, none)
    assert "policy.forget_bias" in changes(kept, gated), "it has an effect in one of them"


def test_a_run_that_goes_on_keeps_its_policy_but_for_what_of_it_learns() -> None:
    check_weights(BASE, with_fields(BASE, ["--policy.freeze-encoder"], "train"))
    # What `auto` stands for is known where the env is.
    check_weights(with_fields(BASE, ["--policy.encoder", "auto"], "train"), BASE)
    for words in ("--policy.bypass", "--policy.hidden-size 8", "--policy.no-previous-reward"):
        name = words.split()[0][2:].replace("no-", "").replace("-", "_")
        with pytest.raises(
            ConfigError, match=rf"{re.escape(name)} = .*: was .* when the run's weights began"
        ):
            check_weights(BASE, with_fields(BASE, words.split(), "train"))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan], ids=str)
def test_no_setting_takes_a_number_that_is_not_finite(value: float) -> None:
    tried = 0
    for name, _ in leaves(BASE):
        document: Any = json.loads(BASE.to_json())
        *branches, last = name.split(".")
        place, kind = document, Config
        for branch in branches:
            place, kind = place[branch], get_type_hints(kind)[branch]
        hint = get_type_hints(kind)[last]
        if float in (hint, *get_args(hint)):
            place[last] = value
            tried += 1
            with pytest.raises(ConfigError, match=rf"{name.replace('.', '[.]')} = (-?inf|nan)"):
                Config.from_json(json.dumps(document))
    assert tried > 20


def _other_values(value: object, hint: object) -> list[object]:
    words = [
        word
        for option in (hint, *get_args(hint))
        for word in get_args(option)
        if isinstance(word, str) and word != value
    ]
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, value - 1, 2 * value + 4]
        case float():
            return [value + 0.25]
        case _:
            return [*words, "/x", '{"size": 9}', "module:function", 1, True]


def test_a_suite_refuses_every_setting_of_the_others() -> None:
    """CartPole has none of its own, so that none of `env.*` may be set with it."""
    plain = EnvConfig(id="cartpole/masked")
    for name, value in leaves(plain):
        if name in ("id", "num_envs", "procgen.start_level"):  # the last has no value without num_levels
            continue
        branch, _, last = name.rpartition(".")
        part = getattr(plain, branch) if branch else plain
        for other in _other_values(value, get_type_hints(type(part))[last]):
            try:
                changed = dataclasses.replace(part, **{last: other})
                config = dataclasses.replace(plain, **{branch: changed}) if branch else changed
            except ValueError:
                continue
            if (name, other) == ("num_threads", 1):  # what holds without it
                check_env(config)
                continue
            with pytest.raises(EnvError, match=f"env.{name}"):
                check_env(config)
            break
        else:
            pytest.fail(f"no other value of env.{name} was found")
