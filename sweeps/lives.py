"""The folder of one trial of a sweep: OUT/trials/ID.

    1/            the run directory of its first life, as `launch.py train` leaves it
    1.log         all that this run printed
    2/, 2.log     of the next one, which began from another trial's checkpoint (PBT), and so on
    lives.jsonl   a line for each: its number, the step it began at, whose checkpoint it took, its values

A life that was killed, or paused, goes on in its own run directory.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from configs.schema import Config
from learner.records import checkpoint
from learner.records.metrics_file import read_rows
from learner.records.run_dir import RunDir

TRIALS = "trials"
STOP = ".stop"
"""A file in OUT: whoever makes it asks all trials to end their training."""
ENDED = "ended.jsonl"
"""A file in OUT: which trials have ended, and how."""
How = Literal["finished", "failed"]
"""A trial that its scheduler stopped has finished too."""


@dataclass(frozen=True, slots=True)
class Life:
    """A course of training with the same values from its beginning to its end."""

    life: int
    """From 1."""
    step: int
    """Agent steps done when it began."""
    origin: str | None
    """The trial whose checkpoint it took; None: it began from nothing."""
    values: dict[str, Any]
    """Of the fields of the space."""


@dataclass(frozen=True, slots=True)
class Report:
    """Where a life stands, by what it has on disk."""

    step: int
    """Agent steps of its newest checkpoint."""
    value: float
    """The metric's newest value up to there."""


class TrialFolder:
    """One process at a time writes here: the trial's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lives(self) -> list[Life]:
        file = self.path / "lives.jsonl"
        return [Life(**row) for row in read_rows(file)] if file.exists() else []

    def run_dir(self, life: int) -> Path:
        return self.path / str(life)

    def log(self, life: int) -> Path:
        return self.path / f"{life}.log"

    def begin(self, values: Mapping[str, Any]) -> Life:
        """The first life; the one that is there, if it was begun before."""
        lives = self.lives()
        return lives[0] if lives else self._add(Life(1, 0, None, dict(values)))

    def begin_from(self, found: Path, origin: str, config: Config, values: Mapping[str, Any]) -> Life:
        """The next life, from a copy of the checkpoint `found`, which `origin` wrote: weights, optimiser,
        traces and streams are its. It is the last one again if that began so: it was killed since.

        Raises CheckpointError for a checkpoint that cannot be used."""
        step, lives = checkpoint.load(found).step, self.lives()
        life = Life(len(lives) + 1, step, origin, dict(values))
        if lives and dataclasses.replace(lives[-1], life=life.life) == life:
            return lives[-1]
        run_dir = RunDir.create(self.run_dir(life.life), config.preset, config.seed)
        try:
            run_dir.save_config(config.to_json())
            shutil.copytree(found, run_dir.checkpoints_path / found.name)
        finally:
            run_dir.release()
        return self._add(life)

    def report(self, life: int, metric: str, after: int = -1) -> Report | None:
        """Where it stands, if that is past step `after` and the metric has a value by then."""
        run_dir = self.run_dir(life)
        file, steps = run_dir / "metrics.jsonl", checkpoint.steps(run_dir / "checkpoints")
        if max(steps, default=-1) <= after or not file.exists():  # mostly, ten times a second
            return None
        whole = file.read_bytes().rpartition(b"\n")[0]  # the last row may be half written
        rows = [json.loads(line) for line in whole.splitlines()]
        logged = max((row["global_step"] for row in rows), default=-1)
        steps = [step for step in steps if after < step <= logged]
        if not steps:
            return None
        values = [row[metric] for row in rows if row["global_step"] <= max(steps) and metric in row]
        return Report(max(steps), values[-1]) if values else None

    def points(self, life: int, metric: str) -> list[tuple[int, float]]:
        """(agent steps, metric) of all rows that have it."""
        file = self.run_dir(life) / "metrics.jsonl"
        rows = read_rows(file) if file.exists() else ()
        return [(row["global_step"], row[metric]) for row in rows if metric in row]

    def copy_newest(self, life: int, to: Path) -> Path:
        """A copy of the newest checkpoint of a life that may be training. Raises CheckpointError."""
        checkpoints = self.run_dir(life) / "checkpoints"
        while True:
            newest = checkpoint.newest(checkpoints)
            if newest is None:
                raise checkpoint.CheckpointError(f"{checkpoints} holds no checkpoint")
            try:
                return Path(shutil.copytree(newest, to / newest.name))
            except (FileNotFoundError, shutil.Error):
                if newest.exists():
                    raise
                # It was pruned meanwhile: there is a newer one.
                shutil.rmtree(to / newest.name, ignore_errors=True)

    def _add(self, life: Life) -> Life:
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lives.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(life)) + "\n")
        return life


def out_of(trial: Any) -> Path:
    """OUT of the sweep that a trial of Tune's belongs to, wherever that has been moved to."""
    return Path(trial.storage.experiment_fs_path).parent


def begun(out: Path) -> bool:
    """Whether Ray Tune has written down in OUT/tune where the sweep stands."""
    return any((out / "tune").glob("experiment_state-*"))


def ended(out: Path) -> dict[str, How]:
    """By the trial's name. One that had failed may have finished since."""
    file = out / ENDED
    return {row["trial"]: row["how"] for row in read_rows(file)} if file.exists() else {}


def note(out: Path, trial: str, how: How) -> None:
    with (out / ENDED).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"trial": trial, "how": how}) + "\n")
