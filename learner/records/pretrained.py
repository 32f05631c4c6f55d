"""The encoder of an earlier run, taken into a new policy."""

from __future__ import annotations

from pathlib import Path

from actors.policy import Policy
from configs.schema import ConfigError
from learner.records.checkpoint import CheckpointError
from learner.records.choose import load_from

_PREFIX = "policy/encoder."


def load_encoder(policy: Policy, path: str) -> None:
    """Copies the encoder's weights from a run directory (its newest checkpoint) or from one checkpoint.

    Raises ConfigError, before any weight is touched, where nothing usable is there or the shapes differ.
    """
    try:
        saved = load_from(Path(path))
    except CheckpointError as error:
        raise ConfigError(f"policy.load_encoder = {path!r}: {error}") from error
    theirs = {name[len(_PREFIX) :]: t for name, t in saved.tensors.items() if name.startswith(_PREFIX)}
    mine = policy.encoder.state_dict()
    for name in sorted(mine.keys() | theirs.keys()):
        here = list(mine[name].shape) if name in mine else "absent"
        there = list(theirs[name].shape) if name in theirs else "absent"
        if here != there:
            raise ConfigError(
                f"policy.load_encoder = {path!r} holds another encoder: {name} is {there} there and {here} "
                "here; use the policy.encoder, policy.features and observations of that run"
            )
    policy.encoder.load_state_dict(theirs)
