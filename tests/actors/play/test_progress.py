"""The bar on a terminal, the lines elsewhere."""

from __future__ import annotations

import io

import pytest

from actors.play.progress import LINE_INTERVAL_S, GamesBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_at_an_interval_where_there_is_no_terminal() -> None:
    output, now = io.StringIO(), 0.0
    with GamesBar(10, output, clock=lambda: now) as bar:
        for second in range(35):
            now = float(second)
            bar.show(second // 10, 100 * second, f"{second // 10} of 10 games")
    lines = output.getvalue().splitlines()
    assert lines == [f"{n} of 10 games, 100 steps/s" for n in (1, 2, 3)] and LINE_INTERVAL_S == 10.0


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "20"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    output, now = Terminal(), 0.0
    with GamesBar(10, output, clock=lambda: now) as bar:
        for tenth in range(1, 31):
            now = tenth / 10
            bar.show(tenth // 3, tenth, f"{tenth // 3} of 10 games")
    assert "9 of 10 games, 10 steps/s" in output.getvalue() and "━" in output.getvalue()
