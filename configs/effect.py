"""Settings that cannot take effect under others: one that is given on the command line is refused.

A preset may hold such a value (cartpole's options of Ray, say, with `--runtime inline`): nobody asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from configs.core import FORGET_GATE, STARTS
from configs.error import ConfigError
from configs.schema import Config, EnvConfig
from configs.serial import leaves


def without_effect(config: Config) -> dict[str, str]:
    """Dotted names of the settings that change nothing in this config, and why, besides those that its own
    construction refuses.

    Settings of an environment are told by its suite, which knows them (`envs.make.check_env`).
    """
    policy, rtrl, ppo = config.policy, config.rtrl, config.ppo
    used = rtrl.fresh_traces or rtrl.staleness_interval > 0
    rules = (
        (config.runtime == "inline", "ray", "runtime = 'inline'"),
        (config.runtime == "inline", "prefetch", "runtime = 'inline'"),
        (config.actor_device == "cpu", "ray.actor_gpus", "actor_device = 'cpu'"),
        (config.ray.address is not None, "ray.object_store_mib", f"ray.address = {config.ray.address!r}"),
        (not config.ray.follow_cluster, "ray.settle_s", "ray.follow_cluster = False"),
        (config.optimizer == "adam", "alpha", "optimizer = 'adam'"),
        (policy.encoder == "none", "policy.features", "policy.encoder = 'none'"),
        (policy.encoder == "none", "encoder_lr_scale", "policy.encoder = 'none'"),
        *(
            (policy.encoder in ("none", "mlp"), f"compute.{name}", f"policy.encoder = {policy.encoder!r}")
            for name in ("encoder_dtype", "actor_encoder_dtype")
        ),
        (policy.encoder == "none", "compute.compile_encoder", "policy.encoder = 'none'"),
        (policy.freeze_encoder, "encoder_lr_scale", "policy.freeze_encoder"),
        (policy.core == "none", "policy.hidden_size", "policy.core = 'none'"),
        (
            policy.core not in FORGET_GATE,
            "policy.forget_bias",
            f"policy.core = {policy.core!r}, which has no forget gate",
        ),
        *(
            (policy.load is not None, f"policy.{name}", f"policy.load = {policy.load!r}")
            for name in ("forget_bias", *(f"rotation.{start}" for start in STARTS))
        ),
        (not config.carries_traces, "diagnostics_interval", f"credit = {config.credit!r}"),
        (not rtrl.boundary, "rtrl.max_trace_norm", "rtrl.boundary = False"),
        (not used, "rtrl.history_rollouts", "neither rtrl.fresh_traces nor rtrl.staleness_interval"),
        (config.unroll_length == 1, "lambda_", "unroll_length = 1"),
        (config.unroll_length == 1, "clip_c_threshold", "unroll_length = 1"),
        (config.objective != "ppo", "ppo", f"objective = {config.objective!r}"),
        *(
            (
                config.objective == "ppo" and ppo.targets == "gae",
                f"clip_{name}_threshold",
                "ppo.targets = 'gae'",
            )
            for name in ("rho", "c")
        ),
        (config.objective == "ppo", "clip_pg_rho_threshold", "objective = 'ppo', which has ppo.clip"),
        *((ppo.epochs == 1, f"ppo.{name}", "ppo.epochs = 1") for name in ("fresh_gradient", "fresh_targets")),
        (ppo.epochs == ppo.minibatches == 1, "ppo.value_clip", "one gradient step a batch"),
        (policy.core == "none", "ppo.fresh_gradient", "policy.core = 'none', which has no state"),
        (
            ppo.chunk_of(config.unroll_length) == config.unroll_length,
            "ppo.fresh_gradient",
            "ppo.chunk_length = unroll_length: what is before the unroll is given",
        ),
        *(
            (config.wandb.mode == "disabled", f"wandb.{name}", "wandb.mode = 'disabled'")
            for name in ("project", "entity", "group", "name")
        ),
    )
    found: dict[str, str] = {}
    for applies, name, why in rules:
        if applies:
            every = {leaf: why for leaf, _ in leaves(config) if f"{leaf}.".startswith(f"{name}.")}
            found = every | found  # the first reason is told
    return found


def refuse_without_effect(config: Config, given: Iterable[str]) -> None:
    """Raises ConfigError for the first of the settings `given` that changes nothing in `config`, unless it is
    set to what it is by default."""
    dead, values = without_effect(config), dict(leaves(config))
    defaults = dict(leaves(Config(env=EnvConfig(id="any"))))
    for name in given:
        if name in dead and values[name] != defaults[name]:
            raise ConfigError(
                f"{name} = {values[name]!r}: has no effect with {dead[name]}; leave one of the two out"
            )


def given_settings(config: Config, words: Iterable[str]) -> list[str]:
    """The settings that command-line words name: `--policy.no-freeze-core` is `policy.freeze_core`."""
    names = {name.replace("_", ""): name for name, _ in leaves(config)}
    found = []
    for word in words:
        if word.startswith("--"):
            branch, dot, last = word[2:].partition("=")[0].replace("-", "").replace("_", "").rpartition(".")
            found += [names.get(branch + dot + last) or names.get(branch + dot + last.removeprefix("no"))]
    return [name for name in found if name is not None]
