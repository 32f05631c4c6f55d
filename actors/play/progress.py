"""How far games are that somebody waits for: a bar on a terminal, a line at an interval elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LINE_INTERVAL_S = 10.0
"""Seconds between two lines where the output is not a terminal."""
_REFRESH_S = 0.2


class GamesBar:
    """On standard error, so that what is printed there is never taken for a result. A context manager."""

    def __init__(
        self, total: int, output: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`total`: of whatever `show` counts."""
        self._output, self._clock = sys.stderr if output is None else output, clock
        self._began = self._shown = clock()
        console = Console(file=self._output)
        self._bar: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Progress(*columns, console=console, transient=True, auto_refresh=False)
            self._task = self._bar.add_task("", total=total)

    def show(self, done: int, steps: int, text: str) -> None:
        """`steps`: agent steps so far, of all slots. May be called at every step."""
        now = self._clock()
        if now - self._shown < (LINE_INTERVAL_S if self._bar is None else _REFRESH_S):
            return
        self._shown = now
        line = f"{text}, {steps / max(now - self._began, 1e-9):,.0f} steps/s"
        if self._bar is None:
            print(line, file=self._output, flush=True)
        else:
            self._bar.update(self._task, completed=done, description=line, refresh=True)

    def __enter__(self) -> GamesBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
