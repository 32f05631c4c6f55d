"""What a run shows of itself while it is shaken: status.json, starts.jsonl, and every row of metrics.jsonl,
also those that are taken back when its learner goes on from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.schema import Config
from tests.soak.books import Life
from training.status import NAME


class Tail:
    """Whole lines of a file that is appended to, and cut at times; each once."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._last = path, 0, b""
        self._newest = -1.0

    def rows(self) -> Iterator[dict[str, Any]]:
        """Those that are new, by `wall_time` where the file was cut."""
        try:
            data = self._new()
        except FileNotFoundError:
            return
        whole, newline, _ = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in whole.splitlines():
            row = json.loads(line)
            if row["wall_time"] > self._newest:
                self._newest = row["wall_time"]
                yield row
            self._last = line + b"\n"

    def _new(self) -> bytes:
        """What follows the last line that was read; the whole file where that is not there any more."""
        with self._path.open("rb") as file:
            file.seek(self._offset - len(self._last))
            if file.read(len(self._last)) != self._last:
                self._offset, self._last = file.seek(0), b""
            return file.read()


class Watch:
    """One run directory, through all the processes that train there."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.lives: list[Life] = []
        self.status: dict[str, Any] = {}
        self._tail = Tail(run_dir / "metrics.jsonl")
        self._key: tuple[int, int] | None = None
        self.checkpoint_before: Any = None
        """The newest one when the present life was first seen."""

    def look(self, turn: int, lossy: bool) -> None:
        """`turn`: counts the processes of launch.py."""
        try:
            self.status = json.loads((self.run_dir / NAME).read_text())
        except FileNotFoundError:
            return
        for row in self._tail.rows():
            key = turn, int(row["faults/learner_restarts"])
            if key != self._key:
                self._key = key
                self.lives.append(self._begun(turn, lossy))
                self.checkpoint_before = self.status.get("checkpoint")
            self.lives[-1].rows.append(row)

    def _begun(self, turn: int, lossy: bool) -> Life:
        config = Config.from_json((self.run_dir / "config.json").read_text())
        start = json.loads((self.run_dir / "starts.jsonl").read_text().splitlines()[-1])
        widest = -(-config.num_streams // config.num_actors)
        name = f"{self.run_dir.name}, turn {turn}, life {len(self.lives)}"
        return Life(name, start["global_step"], config.unroll_length, widest, lossy)

    @property
    def life(self) -> Life | None:
        """That of which rows come now; None while there is none, or after it was killed."""
        if self.lives and self.lives[-1].end is None and self.status.get("state") in ("training", "starving"):
            return self.lives[-1]
        return None

    @property
    def forgiven(self) -> bool:
        """The present life has written a checkpoint in passing: it may fail without being one of a row."""
        return self.status.get("checkpoint") != self.checkpoint_before
