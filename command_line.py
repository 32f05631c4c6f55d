"""What the command line asks for: a config from its fields, and of `train` whether a run begins or goes on.

    train PRESET [--field value ...]                              a new run
    train PRESET --run-dir DIR --auto-resume [--field value ...]  a new run in DIR, or the one that is there
    train --resume RUN_DIR [--field value ...]                    the one that is there; the command line wins

Nothing is written here.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from configs.effect import given_settings, refuse_without_effect
from configs.identity import changes, check_weights, may_change, of_the_weights
from configs.layout import with_asked_layout, with_order
from configs.orders import read_order
from configs.paths import absolute
from configs.presets import preset, preset_patterns
from configs.schema import Config, ConfigError
from learner.records.run_dir import RunDir, RunDirError

USAGE = """usage: launch.py train PRESET [--field value ...]
       launch.py train PRESET --run-dir DIR --auto-resume [--field value ...]
       launch.py train --resume RUN_DIR [--field value ...]"""


@dataclass(frozen=True, slots=True)
class Start:
    """A training run as it was asked for."""

    config: Config
    """With absolute paths."""
    resume: bool
    """Whether the run in `config.run_dir` goes on, or one begins."""


def with_fields(base: Config, words: list[str], prog: str) -> Config:
    """`base`, but for the fields that `words` set, as in `--policy.hidden-size 64`. Paths become absolute.

    Raises ConfigError for values that do not fit and for a field that cannot take effect. What tyro finds
    wrong ends the process with code 2.
    """
    base, words = with_asked_layout(base, words)
    config = tyro.cli(Config, default=base, args=words, prog=prog)
    refuse_without_effect(config, given_settings(config, words))
    for name, value in (("num_actors", config.num_actors), ("env.num_envs", config.env.num_envs)):
        if config.ray.follow_cluster and value:
            raise ConfigError(
                f"{name} = {value}: follows from the cluster with --num-actors auto; leave one out"
            )
    policy = dataclasses.replace(
        config.policy, load=_path(config.policy.load), load_encoder=_path(config.policy.load_encoder)
    )
    return dataclasses.replace(config, policy=policy, run_dir=_path(config.run_dir))


def _path(text: str | None) -> str | None:
    return None if text is None else str(absolute(text))


def asked_to_train(arguments: list[str], prog: str = "launch.py train") -> Start:
    """The run that the arguments of `train` ask for.

    Raises ConfigError or RunDirError for one that cannot be, CheckpointError where it cannot be seen whether
    a run is there. Prints help and ends the process where that is asked for.
    """
    parser = argparse.ArgumentParser(prog=prog, usage=USAGE[7:], add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", nargs="?", const="")
    parser.add_argument("--auto-resume", action="store_true")
    options, words = parser.parse_known_args(arguments)
    name = words[0] if words and not words[0].startswith("-") else None
    if options.resume is not None:
        if name is not None or options.auto_resume:
            extra = "--auto-resume" if name is None else name
            raise ConfigError(f"train --resume RUN_DIR goes on with what is there: leave out {extra!r}")
        if not options.resume:
            raise ConfigError("train --resume needs a run directory")
        return _resumed(absolute(options.resume), words, prog)
    if name is None:
        print(f"{USAGE}\npresets: {'; '.join(preset_patterns())}")
        raise SystemExit(0 if words[:1] in (["-h"], ["--help"]) else 2)
    config = with_fields(preset(name), words[1:], prog)
    if not options.auto_resume:
        return Start(config, resume=False)
    if config.run_dir is None:
        raise ConfigError("--auto-resume needs --run-dir DIR: where the run begins, or is and goes on")
    if not RunDir.begun(config.run_dir):
        return Start(config, resume=False)
    return Start(_same_run(RunDir.saved_config(config.run_dir), config), resume=True)


def _resumed(run_dir: Path, words: list[str], prog: str) -> Start:
    # A run directory may have been moved or copied since its config was written.
    saved = RunDir.saved_config(run_dir)
    base = dataclasses.replace(_as_ordered(saved, run_dir), run_dir=str(run_dir))
    config = with_fields(base, words, prog)
    if not saved.ray.follow_cluster:
        config = _within_a_cluster(config)
    if config.run_dir != str(run_dir):
        raise ConfigError(
            f"run_dir = {config.run_dir!r}: a run that is resumed stays in its directory, {run_dir}; leave "
            "--run-dir out, or copy the directory first and resume the copy"
        )
    check_weights(base, config)
    return Start(config, resume=True)


def _within_a_cluster(config: Config) -> Config:
    """Without an order to follow the cluster, where it goes on in none."""
    if not config.ray.follow_cluster or config.ray.joined:
        return config
    print(
        "num_actors = auto, as was ordered, follows a cluster, and none is named (--ray.address): actors are "
        "chosen for this machine",
        flush=True,
    )
    return dataclasses.replace(config, ray=dataclasses.replace(config.ray, follow_cluster=False))


def _as_ordered(saved: Config, run_dir: Path) -> Config:
    """With the number of actors that the run was told while it ran."""
    order = read_order(run_dir)
    return saved if order is None else with_order(saved, order)


def _same_run(saved: Config, asked: Config) -> Config:
    """`asked`, if it is the run that `saved` began. Tells on stderr what changes.

    Raises RunDirError for another run.
    """
    # Where a run is in W&B was settled when it began: what is not asked for now stays.
    names = {name: getattr(saved.wandb, name) for name in ("project", "entity", "group", "name")}
    open_names = {name: value for name, value in names.items() if getattr(asked.wandb, name) is None}
    asked = dataclasses.replace(asked, wandb=dataclasses.replace(asked.wandb, **open_names))
    found = changes(saved, asked)
    other = {name: values for name, values in found.items() if not may_change(name)}
    if other:
        differ = "; ".join(f"{name} = {old!r} there, {new!r} asked for" for name, (old, new) in other.items())
        go_on = f"train --resume {asked.run_dir}"
        kept = any(of_the_weights(name) for name in other)
        how = (
            f"go on as it is with `{go_on}`" if kept else f"change it on purpose with `{go_on} --field value`"
        )
        raise RunDirError(
            f"{asked.run_dir} holds another run ({differ}): give this one a --run-dir of its own, or {how}"
        )
    for name, (old, new) in found.items():
        if name != "run_dir":
            print(f"going on with {asked.run_dir}: {name} = {new!r}, was {old!r}", file=sys.stderr)
    return asked
