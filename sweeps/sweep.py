"""`launch.py sweep SPACE.yaml`: a preset over a space of settings, on this machine or a cluster, by Ray Tune.

    OUT/sweep.json      what is swept, as it was read
    OUT/trials/ID/      a trial's run directories (sweeps/lives.py)
    OUT/ended.jsonl     a line for each trial that has ended, and how
    OUT/tune/           Ray Tune's own state
    OUT/summary.md, OUT/summary.json, OUT/sweep.png, OUT/sweep.svg

The same command goes on where it was left: trials that have ended are not repeated, the others go on from
their checkpoints.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import json
import logging
import os
import signal
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from actors.fleet.cluster import ray_session
from configs.machine import available_cores
from configs.paths import path_argument, write_whole
from configs.schema import ConfigError, RayConfig
from envs.make import check_env
from experiments.runner import claim
from sweeps.lives import STOP, TRIALS, begun, ended
from sweeps.read import read_space
from sweeps.space import Space
from training.signals import on_stop

PACKAGES = ("ray", "pyarrow", "pandas", "optuna", "matplotlib")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.py sweep", description="Trials of a preset by Ray Tune.")
    parser.add_argument("space", type=path_argument, metavar="SPACE.yaml", help="docs/sweeps.md explains it")
    parser.add_argument("--out", type=path_argument, help="default: runs/sweeps/NAME of NAME.yaml")
    parser.add_argument(
        "--ray.address", dest="address", metavar="HOST:PORT", help="of a running cluster's head, or auto"
    )
    options = parser.parse_args(arguments)
    options.out = options.out or Path("runs/sweeps").absolute() / options.space.stem
    return options


def main(arguments: list[str]) -> int:
    """Returns 0, also where it was asked to stop, or 1 where a trial failed. Raises ConfigError, with nothing
    on disk, for input that cannot be used."""
    options = parse(arguments)
    space, out = read_space(options.space), options.out
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"sweep needs the package {missing[0]!r}, which is not installed: "
            "pip install -c constraints.txt '.[ray,tune,plot]'"
        )
    config = space.first()
    check_env(config.env)
    cores, gpus, ray = available_cores(), torch.cuda.device_count(), RayConfig(address=options.address)
    for name, needed, there in (("cpus", space.resources.cpus, cores), ("gpus", space.resources.gpus, gpus)):
        if not ray.joined and needed > there:
            raise ConfigError(
                f"{options.space}: resources.{name} = {needed:g}: this machine has {there}; lower it, "
                "or name a cluster by --ray.address"
            )
    check_same(space, out)
    with ExitStack() as stack:
        out.mkdir(parents=True, exist_ok=True)
        claim(out, "sweep", stack)
        (out / "tune").mkdir(mode=0o700, exist_ok=True)
        write_whole(out / "sweep.json", json.dumps(plain(space), indent=2) + "\n")
        (out / STOP).unlink(missing_ok=True)
        if len(ended(out)) < space.trials or "failed" in ended(out).values():
            stack.enter_context(ray_session(ray, cores, config.env, gpus))
            _conduct(space, out, stack)
    from sweeps.report import report

    text = report(space, out)
    print(f"\n{text}\nsaved in {out}")
    return int("failed" in ended(out).values())


def plain(space: Space) -> dict[str, Any]:
    """As JSON: read again it is the same."""
    return json.loads(json.dumps(dataclasses.asdict(space)))


def check_same(space: Space, out: Path) -> None:
    """Raises ConfigError unless `out` is free, or holds this sweep and is ours alone."""
    file = out / "sweep.json"
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not file.is_file():
        raise ConfigError(f"--out {out} holds something else than a sweep: choose another")
    try:
        saved = json.loads(file.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{file} is damaged ({error}): choose another --out") from error
    asked = plain(space)
    for name in asked:
        if not isinstance(saved, dict) or saved.get(name) != asked[name]:
            there = saved.get(name) if isinstance(saved, dict) else saved
            raise ConfigError(
                f"--out {out} holds another sweep: {name} = {there!r} there, {asked[name]!r} asked for; "
                "choose another --out"
            )
    if not begun(out) and any((out / TRIALS).glob("*")):
        raise ConfigError(
            f"{out / TRIALS} holds trials that Ray Tune has not written down: it was killed as it began; "
            f"remove {out}, or choose another --out"
        )
    tune = out / "tune"
    if tune.exists() and (tune.stat().st_uid != os.geteuid() or stat.S_IMODE(tune.stat().st_mode) & 0o022):
        raise ConfigError(
            f"{tune} can be written by others, and what Ray Tune reads there runs code: see who wrote it, "
            f"then `chmod -R go-w {tune}`, or choose another --out"
        )


def _conduct(space: Space, out: Path, stack: ExitStack) -> None:
    """Runs what has not ended yet, in the Ray session that is there."""
    # No files of Tune's own loggers, and signals are ours: a second Ctrl-C ends at once.
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_DISABLE_SIGINT_HANDLER": "1"}
    # What verbose=0 does not silence; sweeps/progress.py tells of trials.
    os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_PRINT_ALL_TRIAL_ERRORS": "0"}
    from sweeps.search import make_tuner

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    tuner = make_tuner(space, out)
    on_stop(stack, functools.partial(_ask_to_stop, out))
    tuner.fit()


def _ask_to_stop(out: Path, name: str) -> None:
    print(f"{name}: trials write checkpoints and end; the same command goes on", flush=True)
    # The handler that Tune has while it runs: it leaves its loop, and saves where it stands.
    if not callable(signal.getsignal(signal.SIGUSR1)):
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGUSR1)
    (out / STOP).touch()
