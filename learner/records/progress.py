"""The live view of a training run: a panel on a terminal, one line at an interval elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from actors.output import LastingStream
from learner.records.metrics import EPISODE_WINDOW

LINE_INTERVAL_S = 30.0
"""Seconds between two lines where the output is not a terminal."""
_SMOOTHING = 0.8
"""Weight of the past in the rate that the ETA is computed from."""


class ProgressView:
    """A sink (`sinks.Sink`) that shows where a run stands. What else is printed through sys.stdout
    or sys.stderr while the panel is up appears above it, whole.

    Values stay on show until a newer one comes: a metric may be missing from a row.
    """

    def __init__(
        self,
        total_steps: int,
        run_dir: Path,
        title: str,
        seconds_left: Callable[[], float | None] = lambda: None,
        output: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`total_steps`: agent steps. `seconds_left`: until the run's time limit, None where it has none.
        `output`: standard output if None; a terminal gets the panel."""
        self._seconds_left = seconds_left
        self._total_steps, self._run_dir, self._title, self._clock = total_steps, run_dir, title, clock
        self._step = 0
        self._episodes = 0
        self._rate: float | None = None
        self._metrics: dict[str, float] = {}
        self._output = sys.stdout if output is None else output
        self._last_line = -float("inf")
        self._unprinted = False
        self._live: Live | None = None
        console = Console(file=output)
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(self._panel(), console=console, auto_refresh=False)
            self._live.start()

    @property
    def errors(self) -> int:
        """What the terminal or the log did not take, of whoever prints in this process."""
        return self._output.failures if isinstance(self._output, LastingStream) else 0

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None:
        """New numbers, named as in `learner.records.metrics`."""
        self._step = global_step
        self._metrics.update(metrics)
        self._episodes += int(metrics.get("charts/episodes", 0))
        if "charts/SPS" in metrics:
            newest = metrics["charts/SPS"]
            self._rate = newest if self._rate is None else _SMOOTHING * self._rate + (1 - _SMOOTHING) * newest
        if self._live is not None:
            self._live.update(self._panel(), refresh=True)
            return
        self._unprinted = True
        if self._clock() - self._last_line >= LINE_INTERVAL_S:
            self._print_line()

    def roll_back(self, global_step: int) -> None:
        """The panel stays as it is until the next row: its games were played all the same."""

    def close(self, exit_code: int = 0) -> None:
        """Leaves the last state on the screen. May be called twice."""
        if self._live is not None:
            self._live.stop()
        elif self._unprinted:
            self._print_line()

    def _print_line(self) -> None:
        self._last_line, self._unprinted = self._clock(), False
        fields = "  ".join(f"{label} {value}" for label, value in self._fields())
        print(f"{self._progress()}  {fields}", file=self._output, flush=True)

    def _panel(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        fields = [*self._fields(), ("run", str(self._run_dir))]
        for label, value in fields:
            table.add_row(Text(label, style="dim"), Text(value))
        bar = ProgressBar(total=self._total_steps, completed=min(self._step, self._total_steps))
        rows = Table.grid(expand=True)  # not a Group: the bar ends no line, and would swallow the next one
        for row in (Text(self._progress()), bar, table):
            rows.add_row(row)
        return Panel(rows, title=Text(self._title), title_align="left")

    def _progress(self) -> str:
        percent = 100 * self._step / self._total_steps
        remaining = max(0, self._total_steps - self._step)
        by_steps = remaining / self._rate if self._rate else None
        by_limit = self._seconds_left() if remaining else None
        known = [seconds for seconds in (by_steps, by_limit) if seconds is not None]
        eta = f"{_duration(min(known))} left" if known else "time left unknown"
        if by_limit is not None and by_limit == min(known):
            eta += " (time limit)"
        return f"{self._step:,} / {self._total_steps:,} steps ({percent:.1f} %), {eta}"

    def _fields(self) -> list[tuple[str, str]]:
        """Label and value of what is known so far."""
        fields: list[tuple[str, str]] = []

        def show(label: str, text: str, *names: str) -> None:
            if all(name in self._metrics for name in names):
                fields.append((label, text.format(*(self._metrics[name] for name in names))))

        games = f"(mean of the last {EPISODE_WINDOW} games, {self._episodes:,} so far)"
        show("return", "{:.2f} " + games, "charts/episodic_return")
        show("evaluation", "{:.2f} (mean of {:.0f})", "eval/episodic_return", "eval/episodes")
        show("speed", "{:,.0f} steps/s, {:,.0f} frames/s", "charts/SPS", "perf/fps")
        show("updates", "{:,.0f}", "charts/updates")
        show("lag", "{:.1f} updates, at most {:.0f}", "lag/policy_version_mean", "lag/policy_version_max")
        show("queue", "{:.0f} rollouts", "queue/rollouts")
        faults = {
            name.removeprefix("faults/").replace("_", " "): value
            for name, value in self._metrics.items()
            if name.startswith("faults/") and value
        }
        if faults:
            fields.append(("faults", ", ".join(f"{value:.0f} {name}" for name, value in faults.items())))
        return fields


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
