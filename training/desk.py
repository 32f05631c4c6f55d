"""What a rank of the learner tells the driver: what it prints, its rows of metrics, and that it moves on.

The rank's loop puts things down and waits for nobody. The driver takes them up with one call after the
other, each answered by another thread of the rank as soon as there is something, or after a while. So a rank
that answers is not frozen, and one whose loop has not come round for long says so itself, by its own clock.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TextIO

from actors.output import make_output_last

KEPT_LINES = 10_000
"""Of a rank that prints more than anybody takes, the oldest are let go here; its log has all."""


@dataclass(frozen=True, slots=True)
class Report:
    """What has come together since the last one."""

    number: int = 0
    """Counts those of this rank."""
    printed: list[tuple[bool, str]] = field(default_factory=list)
    """Pieces of text, and whether each went to standard error."""
    rows: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    """Of metrics, with their global_step."""
    still_s: float = 0.0
    """Seconds since the loop last came round."""
    blocked: bool = False
    """Whether it is waiting for other ranks."""
    updates: int = 0
    global_step: int = 0
    saves: int = 0
    """Checkpoints that this rank has written in passing: not its first, nor one because of an error."""
    starving: str = ""
    """Why the loop gets nothing to learn from, while that lasts."""
    actors: list[dict[str, object]] = field(default_factory=list)
    """Each by its state (RayFleet.standing)."""


class Desk:
    """Also the sink (learner/records/sinks.py) of the rank's loop."""

    errors = 0
    """Of the sinks that the driver has; it puts their number into the rows."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._printed: deque[tuple[bool, str]] = deque(maxlen=KEPT_LINES)
        self._rows: list[tuple[int, Mapping[str, float]]] = []
        self._ended = False
        self._number = 0
        self._told: tuple[list[tuple[bool, str]], list[tuple[int, Mapping[str, float]]]] = [], []
        """What was taken last, as long as it is not known that it arrived."""

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None:
        with self._changed:
            self._rows.append((global_step, dict(metrics)))
            self._changed.notify_all()

    def note(self, error: bool, text: str) -> None:
        with self._changed:
            self._printed.append((error, text))
            self._changed.notify_all()

    def close(self, exit_code: int = 0) -> None:
        """Nothing more will come: whoever waits is answered."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def take(self, timeout_s: float, heard: int = 0) -> Report:
        """Everything that lies here, as soon as there is something, or nothing after `timeout_s`.

        `heard`: the number of the last report that arrived. What was in one after it, which was lost, is in
        this one too.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            if heard == self._number:
                self._told = [], []
            while not (self._told[0] or self._told[1] or self._printed or self._rows or self._ended):
                rest = deadline - time.monotonic()
                if rest <= 0 or not self._changed.wait(rest):
                    break
            self._told = [*self._told[0], *self._printed], [*self._told[1], *self._rows]
            self._printed.clear()
            self._rows = []
            self._number += 1
            return Report(self._number, *self._told)

    def take_output(self) -> None:
        """From now on what this process prints lies here too."""
        make_output_last()
        sys.stdout = _Copied(sys.stdout, self, False)
        sys.stderr = _Copied(sys.stderr, self, True)


class _Copied(io.TextIOBase):
    """A text stream that also notes at the desk what is written to it."""

    def __init__(self, stream: TextIO, desk: Desk, error: bool) -> None:
        self._stream, self._desk, self._error = stream, desk, error

    def write(self, text: str) -> int:
        if text:
            self._desk.note(self._error, text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()
