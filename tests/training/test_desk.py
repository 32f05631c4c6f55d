"""What a rank puts down at its desk is taken up once, in order, at once."""

from __future__ import annotations

import sys
import threading

import pytest

from training.desk import KEPT_LINES, Desk, Report


def test_everything_is_taken_up_once_and_in_order() -> None:
    desk = Desk()
    for step in (1, 2, 3):
        desk.write(step, {"a": float(step)})
        desk.note(False, f"line {step}\n")
    report = desk.take(0.0)
    assert [step for step, _ in report.rows] == [1, 2, 3]
    assert [text for _, text in report.printed] == [f"line {step}\n" for step in (1, 2, 3)]
    assert desk.take(0.0, report.number) == Report(report.number + 1)


def test_what_was_in_an_answer_that_was_lost_is_told_again() -> None:
    desk = Desk()
    desk.write(1, {})
    heard = desk.take(0.0).number
    for step in (2, 3):
        desk.write(step, {})
        desk.note(False, str(step))
        desk.take(0.0, heard)
    report = desk.take(0.0, heard)
    assert [step for step, _ in report.rows] == [2, 3] and [text for _, text in report.printed] == ["2", "3"]
    desk.write(4, {})
    assert [step for step, _ in desk.take(0.0, report.number).rows] == [4]


def test_a_row_is_what_it_was_when_it_was_written() -> None:
    desk, row = Desk(), {"a": 1.0}
    desk.write(1, row)
    row["a"] = 2.0
    assert desk.take(0.0).rows == [(1, {"a": 1.0})]


@pytest.mark.parametrize("what", ["row", "line", "end"])
def test_whoever_waits_is_answered_by_what_comes(what: str) -> None:
    desk = Desk()
    waiter = threading.Thread(target=desk.take, args=(1e6,), daemon=True)
    waiter.start()
    if what == "row":
        desk.write(1, {})
    elif what == "line":
        desk.note(True, "x")
    else:
        desk.close()
    waiter.join(240.0)
    assert not waiter.is_alive()


def test_a_rank_that_prints_without_end_fills_no_memory() -> None:
    desk = Desk()
    for line in range(KEPT_LINES + 5):
        desk.note(False, str(line))
    printed = desk.take(0.0).printed
    assert len(printed) == KEPT_LINES and printed[-1] == (False, str(KEPT_LINES + 4))


def test_what_is_printed_lies_there_and_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # both are put back at the end
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    desk = Desk()
    desk.take_output()
    print("to the log")
    print("to the errors", file=sys.stderr)
    printed = desk.take(0.0).printed
    assert "".join(text for error, text in printed if not error) == "to the log\n"
    assert "".join(text for error, text in printed if error) == "to the errors\n"
    assert capsys.readouterr() == ("to the log\n", "to the errors\n")
