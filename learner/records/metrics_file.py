"""`metrics.jsonl`, the file of metrics that every run leaves: whole rows only, cut where a run resumes."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


class SinkError(Exception):
    """A sink that cannot be opened, or metrics that cannot be written. Names the cause and the remedy."""


class JsonlSink:
    """`metrics.jsonl`: one JSON object a line with `global_step`, `wall_time` (Unix seconds) and metrics."""

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        """`resume_step`: go on after that step; later rows and a half-written last one are cut off.

        Raises SinkError if the file has rows and `resume_step` is None, or if it is damaged.
        """
        if resume_step is not None:
            _cut(path, resume_step)
        elif path.exists() and path.stat().st_size > 0:
            raise SinkError(f"{path} already has rows: a new run needs a file of its own")
        self.path, self.errors = path, 0
        # Unbuffered, and what a full disk refuses is kept here: the file is always a prefix of the rows.
        self._file, self._unwritten = path.open("ab", buffering=0), b""

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None:
        row = {"global_step": global_step, "wall_time": round(time.time(), 3), **metrics}
        self._unwritten += json.dumps(row, allow_nan=False).encode() + b"\n"
        try:
            self._flush()
        except OSError as error:
            if self.errors == 0:
                _log.warning("%s cannot be written (%s): rows wait in memory until it can", self.path, error)
            self.errors += 1

    def roll_back(self, global_step: int) -> None:
        """Cuts off the rows after this step, and what the disk refuses. Raises SinkError for damage."""
        try:
            self._flush()
        except OSError:
            self.errors += 1
            self._unwritten = b""
        _cut(self.path, global_step)

    def close(self, exit_code: int = 0) -> None:
        if self._file.closed:
            return
        try:
            self._flush()
        except OSError as error:
            raise SinkError(f"{self.path}: the last rows could not be written ({error})") from error
        finally:
            self._file.close()

    def _flush(self) -> None:
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def _cut(path: Path, resume_step: int) -> None:
    """Truncates a metrics file before the first row past `resume_step`, or before a half-written last row."""
    if not path.exists():
        return
    keep = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                step = json.loads(line)["global_step"]
                whole = line.endswith(b"\n")
            except (ValueError, KeyError, TypeError) as error:
                if file.read(1):
                    raise SinkError(f"{path}, line {number} is damaged: mend or move the file") from error
                break
            if not whole or step > resume_step:
                break
            keep += len(line)
    os.truncate(path, keep)
