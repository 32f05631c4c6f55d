"""The directory that one run owns: where its files are, and that nobody else writes there.

    RUN_DIR/config.json      the whole config, as the run was started
    RUN_DIR/status.json      where it stands now (training/status.py)
    RUN_DIR/starts.jsonl     one object a start, a resume or a restart of the learner: when, at which step, by
                             which version of the code, with which layout of actors
    RUN_DIR/metrics.jsonl    one object a line
    RUN_DIR/checkpoints/     learner/records/checkpoint.py
    RUN_DIR/wandb/           W&B's own files
    RUN_DIR/.lock            held by the process that trains

Who only reads, to evaluate or to plot, takes no lock.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from configs.paths import write_whole
from configs.schema import Config, ConfigError
from learner.records import checkpoint
from learner.records.choose import load_chosen
from learner.records.state import join_state, taking_up

_KEYS = {"preset", "env", "policy"}
"""What every config.json of a run holds."""


class RunDirError(ValueError):
    """A run directory that cannot be used as asked. The message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class RunDir:
    """A run directory, locked against a second writer until `release` or the end of the process.

    A run has begun with its first checkpoint. Before that, a start that failed or was killed has left nothing
    that is worth anything, and the run can be begun again in the same folder.
    """

    path: Path
    _lock: FileLock | None
    """None: opened to read only."""
    _made: bool = False
    """The folder was not there before."""

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @classmethod
    def create(cls, path: str | Path | None, preset: str, seed: int, runs: Path = Path("runs")) -> RunDir:
        """A directory for a new run; None makes `PRESET/TIME-seedN` under `runs`.

        Raises RunDirError if `path` already holds a run, is in use, or cannot be made; CheckpointError if it
        cannot be seen whether it does.
        """
        try:
            folder, made = _new_folder(runs / preset, seed) if path is None else _claim(Path(path))
        except OSError as error:
            raise RunDirError(
                f"run directory {path or runs.absolute()} cannot be made: {error}; choose another --run-dir"
            ) from error
        run_dir = cls(folder.resolve(), _acquire(folder), made)
        try:
            cls.check_free(folder)
        except Exception:
            run_dir.release()
            raise
        return run_dir

    @classmethod
    def check_free(cls, path: str | Path) -> None:
        """Raises RunDirError if a run cannot begin at `path`, as far as that is seen without writing."""
        folder = Path(path)
        there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
        if not there.is_dir():
            raise RunDirError(
                f"run directory {folder} cannot be made: {there} is no folder; choose another --run-dir"
            )
        config, metrics = folder / "config.json", folder / "metrics.jsonl"
        rows = os.path.exists(metrics) and metrics.stat().st_size > 0
        if rows or cls.begun(folder):
            raise RunDirError(
                f"run directory {folder} already holds a run ({'metrics' if rows else 'checkpoints'}): go on "
                f"with it by `train --resume {folder}`, or choose another --run-dir"
            )
        if os.path.exists(config) and not _is_config(config):
            raise RunDirError(f"{config} is not of a run, and would be lost: choose another --run-dir")

    @classmethod
    def begun(cls, path: str | Path) -> bool:
        """Whether a run is there that can go on: whether it has written a checkpoint.

        Raises CheckpointError if that cannot be seen.
        """
        return checkpoint.newest(Path(path) / "checkpoints") is not None

    @classmethod
    def open(cls, path: str | Path, exclusive: bool = True) -> RunDir:
        """The directory of an earlier run. `exclusive=False` takes no lock: to read, also while it trains.

        Raises RunDirError if `path` is no run directory, or (exclusive) if another process uses it.
        """
        folder = Path(path)
        if not (folder / "config.json").is_file():
            raise RunDirError(f"{folder} is not a run directory: it has no config.json")
        return cls(folder.resolve(), _acquire(folder) if exclusive else None)

    @classmethod
    def saved_config(cls, path: str | Path) -> Config:
        """The config of the run at `path`. Raises RunDirError as `open`, or where it cannot be read;
        ConfigError for a bad one."""
        file = cls.open(path, exclusive=False).config_path
        try:
            return Config.from_json(file.read_bytes())
        except OSError as error:
            raise RunDirError(f"{file} cannot be read: {error}") from error
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error

    @classmethod
    def remove(cls, path: str | Path) -> None:
        """A run directory with all that is in it, or what there is of one. Raises RunDirError, and removes
        nothing, if another process uses it."""
        lock = _acquire(Path(path))
        shutil.rmtree(path)
        lock.release()

    def withdraw(self) -> None:
        """Removes the folder if it was made for a run that has not come so far as to save anything."""
        if self._made and not self.checkpoints_path.exists():
            shutil.rmtree(self.path)

    def save_config(self, text: str) -> None:
        """Writes config.json whole or not at all."""
        write_whole(self.config_path, text)

    def record_start(self, version: str, global_step: int, layout: str) -> None:
        """Adds a line to starts.jsonl."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        row = {"time": when, "global_step": global_step, "code": version, "layout": layout}
        with (self.path / "starts.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def load_state(self, which: str = "newest") -> dict[str, Any]:
        """The state in the checkpoint that `load_chosen` takes; damaged ones are named on stderr and passed
        over. The best one by evaluation holds `policy` and `counters` alone.

        Raises CheckpointError if there is none, or if it cannot be read.
        """
        loaded = load_chosen(self.checkpoints_path, which)
        for message in loaded.refused:
            print(f"checkpoint refused: {message}", file=sys.stderr)
        state = join_state(loaded.meta.get("state"), loaded.tensors)
        with taking_up(self.path):
            if not all(isinstance(tensor, Tensor) for tensor in state["policy"].values()):
                raise TypeError("policy holds what is no tensor")
            counts = state["counters"]
            if not all(
                type(count) is int and count >= 0 for count in (counts["global_step"], *counts.values())
            ):
                raise TypeError(f"{counts} counts nothing")
        return state

    def release(self) -> None:
        if self._lock is not None:
            self._lock.release()


def code_version() -> str:
    """The commit of this clone, with `-dirty` if files of it were changed since. Outside a clone (an image, a
    Ray job) what EVERTRACE_VERSION says, or `unknown`."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return os.environ.get("EVERTRACE_VERSION") or "unknown"
    # A mounted clone may belong to another user, which git refuses by default.
    git = ["git", "-c", "safe.directory=*", "-C", str(root)]
    found = subprocess.run(
        [*git, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True
    )
    if found.returncode:
        print(f"the code's version goes down as unknown: {found.stderr.strip()}", file=sys.stderr)
        return "unknown"
    return found.stdout.strip()


def _is_config(path: Path) -> bool:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.keys() >= _KEYS


def _claim(folder: Path) -> tuple[Path, bool]:
    """Makes the folder unless it is there; whether it was made."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return folder, False
    return folder, True


def _new_folder(parent: Path, seed: int) -> tuple[Path, bool]:
    """Claims a folder that did not exist: two runs begun in the same second get two folders."""
    parent.mkdir(parents=True, exist_ok=True)
    stem, count = time.strftime("%Y%m%d-%H%M%S") + f"-seed{seed}", 1
    while True:
        folder = parent / (stem if count == 1 else f"{stem}-{count}")
        try:
            folder.mkdir()
        except FileExistsError:
            count += 1
        else:
            return folder, True


def _acquire(folder: Path) -> FileLock:
    lock = FileLock(folder / ".lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunDirError(
            f"run directory {folder} is in use by another process: wait for it to end, or stop it"
        ) from error
    except OSError as error:
        raise RunDirError(f"run directory {folder} cannot be locked: {error}") from error
    return lock
