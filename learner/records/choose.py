"""Which checkpoint is meant: the newest of a run, its best by evaluation, the one of a step, or a path."""

from __future__ import annotations

import os
from pathlib import Path

from learner.records import checkpoint
from learner.records.checkpoint import Checkpoint, CheckpointError

BEST = "best"
"""Folder of a run's checkpoints that holds the best one by evaluation (learner/records/best.py)."""


def load_chosen(checkpoints: Path, which: str = "newest") -> Checkpoint:
    """A checkpoint of the run whose folder of checkpoints this is, verified.

    `which`: `newest`; `best`, by evaluation during training; a number of agent steps, or the name of its
    folder; or the path of a checkpoint, of a run or of a folder of checkpoints, whosever they are.

    Raises CheckpointError that says what there is to choose from.
    """
    if which == "newest":
        return checkpoint.load_latest(checkpoints)
    if which == BEST:
        if checkpoint.newest(checkpoints / BEST) is None:
            raise CheckpointError(
                f"{checkpoints / BEST} holds no checkpoint: a run keeps its best one if it evaluates itself "
                "(--eval.interval-steps)"
            )
        return checkpoint.load_latest(checkpoints / BEST)
    if which.isdecimal():
        return checkpoint.load(_of_step(checkpoints, int(which)))
    named = checkpoints / which  # a folder's name, as a listing shows it
    return load_from(named if named.parent == checkpoints and named.is_dir() else Path(which).expanduser())


def load_from(path: Path) -> Checkpoint:
    """The checkpoint at `path`: one itself, or the newest of a run directory or of a folder of them.

    Raises CheckpointError.
    """
    if not os.path.lexists(path):
        raise CheckpointError(f"no checkpoint {path}: there is no such folder")
    if os.path.exists(path / "meta.json"):  # what cannot be read is told below
        return checkpoint.load(path)
    return checkpoint.load_latest(path / "checkpoints" if os.path.isdir(path / "checkpoints") else path)


def run_of(path: Path) -> Path | None:
    """The run directory that `load_from(path)` reads in; None where it lies in no run's folder."""
    inside = next((place.parent for place in (path, *path.parents) if place.name == "checkpoints"), path)
    return inside if (inside / "config.json").exists() else None


def _of_step(checkpoints: Path, step: int) -> Path:
    found = checkpoint.steps(checkpoints / BEST) | checkpoint.steps(checkpoints)
    if step not in found:
        there = ", ".join(map(str, sorted(found))) or "none"
        raise CheckpointError(f"{checkpoints} holds no checkpoint of step {step}; there are: {there}")
    return found[step]
