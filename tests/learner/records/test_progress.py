"""The live view, on a real pseudo-terminal and on a plain stream."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from learner.records import progress
from learner.records.progress import ProgressView

ROW = {
    "charts/episodic_return": 21.256,
    "charts/episodes": 5.0,
    "charts/SPS": 1000.0,
    "perf/fps": 4000.0,
    "charts/updates": 1234.0,
    "lag/policy_version_mean": 1.5,
    "lag/policy_version_max": 4.0,
    "queue/rollouts": 3.0,
    "faults/actor_restarts": 2.0,
    "faults/env_errors": 0.0,
    "losses/total": 0.5,
}

SHOWN = [
    "21.26 (mean of the last 100 games, 5 so far)",
    "1,000 steps/s, 4,000 frames/s",
    "1,234",
    "1.5 updates, at most 4",
    "3 rollouts",
    "2 actor restarts",
]


def test_plain_lines_at_an_interval() -> None:
    stream, now = io.StringIO(), 0.0
    view = ProgressView(1_000_000, Path("runs/x"), "title", output=stream, clock=lambda: now)
    for second in range(0, 61, 10):
        now = float(second)
        view.write(1000 * second, ROW)
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "30,000", "60,000"]
    assert lines[1].startswith("30,000 / 1,000,000 steps (3.0 %), 16 min 10 s left")
    view.close()
    assert len(stream.getvalue().splitlines()) == 3, "nothing new to say at the end"


def test_plain_line_says_everything_and_the_end_is_printed() -> None:
    stream, now = io.StringIO(), 0.0
    view = ProgressView(500, Path("runs/x"), "title", output=stream, clock=lambda: now)
    view.write(0, {})
    view.write(500, ROW)
    view.close()
    view.close()
    first, last = stream.getvalue().splitlines()
    assert first.split("  ")[0] == "0 / 500 steps (0.0 %), time left unknown"
    assert last.startswith("500 / 500 steps (100.0 %), 0 s left")
    assert all(text in last for text in SHOWN)
    assert "env errors" not in last and "\x1b" not in last


@pytest.mark.parametrize(
    ("seconds_left", "text"),
    [
        (None, "15 min 00 s left"),
        (240.0, "4 min 00 s left (time limit)"),
        (3600.0, "15 min 00 s left"),
        (0.0, "0 s left (time limit)"),
    ],
)
def test_the_time_left_ends_at_the_time_limit(seconds_left: float | None, text: str) -> None:
    stream = io.StringIO()
    view = ProgressView(1_000_000, Path("runs/x"), "title", lambda: seconds_left, output=stream)
    view.write(100_000, {"charts/SPS": 1000.0})
    assert stream.getvalue().split("  ")[0] == f"100,000 / 1,000,000 steps (10.0 %), {text}"


def test_a_time_limit_is_shown_before_the_speed_is_known() -> None:
    stream = io.StringIO()
    ProgressView(500, Path("runs/x"), "title", lambda: 60.0, output=stream).write(0, {})
    assert "1 min 00 s left (time limit)" in stream.getvalue()


def test_values_stay_until_newer_ones_come() -> None:
    stream, now = io.StringIO(), 0.0
    view = ProgressView(500, Path("runs/x"), "title", output=stream, clock=lambda: now)
    view.write(100, ROW)
    now = 30.0
    view.write(200, {"charts/updates": 77.0, "charts/episodes": 2.0})
    last = stream.getvalue().splitlines()[-1]
    assert "21.26" in last and "updates 77" in last and "7 so far" in last


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (3599.6, "1 h 00 min"), (90061, "25 h 01 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert progress._duration(seconds) == text


ON_A_TERMINAL = """
import sys
from pathlib import Path
from learner.records.progress import ProgressView

view = ProgressView(4000, Path("runs/x"), "cartpole", output=None)
for step in range(1, 4):
    view.write(1000 * step, {row})
    print("a line of somebody else", step)
    print("a warning of somebody else", step, file=sys.stderr)
view.close()
view.close()
print("after the view")
"""


def test_panel_on_a_terminal_is_not_garbled_by_prints() -> None:
    """What the terminal shows in the end: all foreign lines, whole, and then one panel."""
    root = Path(progress.__file__).parents[2]
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL.replace("{row}", repr(ROW))],
        cwd=root,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    output = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # how Linux reports that the other side has closed
            break
        if not data:
            break
        output += data
    os.close(terminal)
    assert process.wait() == 0, output.decode()
    screen = rendered(output.decode())
    foreign = [line for line in screen if "somebody else" in line]
    assert foreign == [f"a {kind} of somebody else {n}" for n in (1, 2, 3) for kind in ("line", "warning")]
    assert sum("╭" in line for line in screen) == 1, "earlier panels were erased"
    panel = "\n".join(screen[screen.index(foreign[-1]) :])
    assert "3,000 / 4,000 steps (75.0 %), 1 s left" in panel and "runs/x" in panel and "cartpole" in panel
    assert all(text.replace("5 so far", "15 so far") in panel for text in SHOWN)
    assert screen[-1] == "after the view"


def rendered(output: str) -> list[str]:
    """The lines that a terminal is left with: obeys line ends, cursor-up and erase-line, drops colours."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", output):
        if token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token.startswith("\x1b"):
            if token.endswith("A"):
                row -= int(token[2:-1] or 1)
            elif token.endswith("K"):
                lines[row] = ""
        else:
            lines[row] = lines[row][:column] + token + lines[row][column + len(token) :]
            column += len(token)
    return [line.rstrip() for line in lines if line.strip()]
