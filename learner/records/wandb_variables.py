"""W&B's own environment variables, obeyed as its users expect: they fill what the config leaves open.

    WANDB_MODE      wandb.mode, of this process alone: a run may be resumed where there is no network
    WANDB_PROJECT WANDB_ENTITY WANDB_RUN_GROUP WANDB_NAME
                    where a run goes and what it is called; settled when it begins and kept in its config,
                    so that a resumed run stays the same W&B run
    WANDB_DIR       the folder that holds W&B's folder `wandb`, instead of the run directory

The others (tags, notes, API key, ...) W&B reads itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from configs.paths import absolute
from configs.schema import ConfigError, WandbConfig, WandbMode

DEFAULT_MODE: WandbMode = "offline"
DEFAULT_PROJECT = "evertrace"
_MODES: dict[str, WandbMode] = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
"""By the words that W&B knows, two of them from its early days."""


def named(config: WandbConfig, environment: Mapping[str, str]) -> WandbConfig:
    """`config` with project, entity, group and name settled as far as they are known."""
    return dataclasses.replace(
        config,
        project=config.project or environment.get("WANDB_PROJECT") or DEFAULT_PROJECT,
        entity=config.entity or environment.get("WANDB_ENTITY") or None,
        group=config.group or environment.get("WANDB_RUN_GROUP") or None,
        name=config.name or environment.get("WANDB_NAME") or None,
    )


def mode(config: WandbConfig, environment: Mapping[str, str]) -> WandbMode:
    """Of this process. Raises ConfigError for a WANDB_MODE that W&B does not have, or that does not fit."""
    said = environment.get("WANDB_MODE")
    if config.mode is not None or not said:
        return config.mode or DEFAULT_MODE
    if said not in _MODES:
        raise ConfigError(f"WANDB_MODE = {said!r}: choose online, offline or disabled")
    dataclasses.replace(config, mode=_MODES[said])  # refuses what does not go with it
    return _MODES[said]


def folder(run_dir: Path, environment: Mapping[str, str]) -> Path:
    """Where W&B makes its folder `wandb`."""
    said = environment.get("WANDB_DIR")
    return absolute(said) if said else run_dir
