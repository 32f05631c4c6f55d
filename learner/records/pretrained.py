"""The policy of an earlier run, or its encoder alone, taken into a new policy."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

from torch import nn

from actors.policy import Policy
from configs.core import RECURRENCE
from configs.schema import ConfigError, PolicyConfig
from learner.records.checkpoint import CheckpointError
from learner.records.choose import load_from, run_of
from learner.records.run_dir import RunDir

_READS = ("normalise_observations", "bypass", "previous_action", "previous_reward")


def take_weights(policy: Policy, config: PolicyConfig) -> None:
    """Copies into `policy` what `config.load` or `config.load_encoder` names: a run directory (its newest
    checkpoint), a folder of checkpoints (`RUN_DIR/checkpoints/best`) or one checkpoint.

    Raises ConfigError, before any weight is touched, where nothing usable is there or the shapes differ.
    """
    if config.load is not None:
        _check_meaning(config)
        _copy(policy, "policy/", f"policy.load = {config.load!r}", config.load, "policy")
    if config.load_encoder is not None:
        where = f"policy.load_encoder = {config.load_encoder!r}"
        _copy(policy.encoder, "policy/encoder.", where, config.load_encoder, "encoder")


def _check_meaning(config: PolicyConfig) -> None:
    """Weights of one shape may be another recurrence's, and shapes do not say what is read: told where the
    run that they come from is there."""
    assert config.load is not None
    home = run_of(Path(config.load))
    if home is None:
        return
    theirs = RunDir.saved_config(home).policy
    for name in ("core", *(f"rotation.{part}" for part in RECURRENCE), *_READS):
        here, there = (attrgetter(name)(policy) for policy in (config, theirs))
        if here != there:
            raise ConfigError(
                f"policy.load = {config.load!r} holds another policy: policy.{name} is {there!r} there and "
                f"{here!r} here; use the policy.* fields of that run"
            )


def _copy(module: nn.Module, prefix: str, where: str, path: str, what: str) -> None:
    try:
        saved = load_from(Path(path))
    except CheckpointError as error:
        raise ConfigError(f"{where}: {error}") from error
    theirs = {name[len(prefix) :]: t for name, t in saved.tensors.items() if name.startswith(prefix)}
    mine = module.state_dict()
    for name in sorted(mine.keys() | theirs.keys()):
        here = list(mine[name].shape) if name in mine else "absent"
        there = list(theirs[name].shape) if name in theirs else "absent"
        if here != there:
            raise ConfigError(
                f"{where} holds another {what}: {name} is {there} there and {here} here; use the policy.* "
                "fields, the observations and the actions of that run"
            )
    module.load_state_dict(theirs)
