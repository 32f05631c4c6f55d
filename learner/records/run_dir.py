"""The directory that one run owns: where its files are, and that nobody else writes there.

    RUN_DIR/config.json      the whole config, as the run was started
    RUN_DIR/starts.jsonl     one object a start or resume: when, at which step, by which version of the code
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

from learner.records.choose import load_chosen
from learner.records.state import join_state


class RunDirError(ValueError):
    """A run directory that cannot be used as asked. The message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class RunDir:
    """A run directory, locked against a second writer until `release` or the end of the process."""

    path: Path
    _lock: FileLock | None
    """None: opened to read only."""

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
    def create(cls, path: str | Path | None, preset: str, seed: int) -> RunDir:
        """A directory for a new run; None makes `runs/PRESET/TIME-seedN` under the current folder.

        Raises RunDirError if `path` already holds a run, is in use, or cannot be made.
        """
        folder = _new_folder(preset, seed) if path is None else Path(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirError(f"run directory {folder} cannot be made: {error}") from error
        run_dir = cls(folder.resolve(), _acquire(folder))
        for taken in (run_dir.config_path, run_dir.metrics_path, run_dir.checkpoints_path):
            if taken.exists():
                run_dir.release()
                raise RunDirError(
                    f"run directory {folder} already holds a run ({taken.name}): continue it with "
                    f"`train --resume {folder}`, or choose another --run-dir"
                )
        return run_dir

    @classmethod
    def open(cls, path: str | Path, exclusive: bool = True) -> RunDir:
        """The directory of an earlier run. `exclusive=False` takes no lock: to read, also while it trains.

        Raises RunDirError if `path` is no run directory, or (exclusive) if another process uses it.
        """
        folder = Path(path)
        if not (folder / "config.json").is_file():
            raise RunDirError(f"{folder} is not a run directory: it has no config.json")
        return cls(folder.resolve(), _acquire(folder) if exclusive else None)

    def save_config(self, text: str) -> None:
        """Writes config.json whole or not at all."""
        temporary = self.path / ".config.json.tmp"
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.config_path)

    def record_start(self, version: str, global_step: int) -> None:
        """Adds a line to starts.jsonl."""
        row = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "global_step": global_step, "code": version}
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
        meta: Any = loaded.meta
        return join_state(meta["state"], loaded.tensors)

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


def _new_folder(preset: str, seed: int) -> Path:
    """Claims a folder that did not exist: two runs begun in the same second get two folders."""
    parent = Path("runs") / preset
    parent.mkdir(parents=True, exist_ok=True)
    stem, count = time.strftime("%Y%m%d-%H%M%S") + f"-seed{seed}", 1
    while True:
        folder = parent / (stem if count == 1 else f"{stem}-{count}")
        try:
            folder.mkdir()
        except FileExistsError:
            count += 1
        else:
            return folder


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
