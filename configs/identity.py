"""Whether two configs describe the same run: one that is submitted twice, or another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from configs.effect import without_effect
from configs.schema import Config, ConfigError
from configs.serial import leaves

MAY_CHANGE = frozenset(
    {
        *(
            "run_dir",
            "runtime",
            "device",
            "num_learners",
            "learner_threads",
            "num_actors",
            "actor_groups",
            "actor_device",
            "prefetch",
            "total_steps",
            "time_limit_s",
        ),
        *("log_interval_s", "log_interval_steps", "diagnostics_interval"),
        *("compute", "eval", "checkpoint", "wandb", "ray"),
        *(
            "env.num_envs",
            "env.num_threads",
            "env.dmlab.renderer",
            "env.dmlab.level_cache",
            "env.dmlab.dataset_path",
        ),
    }
)
"""Fields and branches that say where, how long and under whose eyes a run runs. All others say what it is."""

MAY_BE_TUNED = frozenset(
    {
        *("learning_rate", "encoder_lr_scale", "alpha", "epsilon", "grad_norm_clipping"),
        *("discounting", "lambda_", "baseline_cost", "entropy_cost", "reward_scale"),
        *("clip_rho_threshold", "clip_c_threshold", "clip_pg_rho_threshold", "max_policy_lag"),
        *("ppo.clip", "ppo.value_clip"),
    }
)
"""Numbers that every update reads anew, and that nothing in a checkpoint is made by: a run that goes on with
others is another run, on purpose (`train --resume`, a population that tunes itself), and loses no stream."""


OF_LEARNING = ("policy.freeze_core", "policy.freeze_encoder")
"""Of the policy, what a run that goes on may change: all else says what its weights are, or where they
began."""


def of_the_weights(name: str) -> bool:
    """Whether a run that goes on has to keep this setting."""
    return _within(name, ("policy",)) and not _within(name, OF_LEARNING)


def check_weights(saved: Config, asked: Config) -> None:
    """Raises ConfigError where a run that goes on is to read its weights otherwise."""
    for name, (old, new) in changes(saved, asked).items():
        chosen = name == "policy.encoder" and "auto" in (old, new)  # by what is shown: maybe the same one
        if of_the_weights(name) and not chosen:
            raise ConfigError(
                f"{name} = {new!r}: was {old!r} when the run's weights began, and says what they are; leave "
                "it out, or begin a new run"
            )


def may_change(name: str) -> bool:
    """Whether a run that goes on with another value of this field is still the same run."""
    return _within(name, MAY_CHANGE)


def _within(name: str, branches: Iterable[str]) -> bool:
    """Whether a field is one of these, or lies in one."""
    return any(f"{name}.".startswith(f"{branch}.") for branch in branches)


def changes(saved: Config, asked: Config) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, and change something in one of the two, by dotted name: their values in `saved`
    and in `asked`."""
    there, idle = dict(leaves(saved)), without_effect(saved).keys() & without_effect(asked).keys()
    return {
        name: (there[name], value)
        for name, value in leaves(asked)
        if there[name] != value and name not in idle
    }
