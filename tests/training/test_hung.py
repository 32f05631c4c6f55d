"""Of several ranks that do not move the one to blame is named, and lines of the others have a number."""

from __future__ import annotations

import time
from typing import Any

import pytest

from actors.fleet.cluster import set_environment
from training.desk import Report

pytestmark = pytest.mark.ray
"""They import Ray, and start none."""


def _placed(number: int, heard_s: float = 0.0, still_s: float = 0.0, blocked: bool = False) -> Any:
    """One that was heard so long ago, and said so."""
    set_environment()
    from training.placed import Placed

    rank = Placed.__new__(Placed)
    rank.number, rank.name = number, f"learner {number}"
    rank._unfinished, rank.global_step = {False: "", True: ""}, 0
    rank.take(Report(still_s=still_s, blocked=blocked))
    rank.heard_at = time.monotonic() - heard_s
    return rank


@pytest.mark.parametrize(
    ("first", "second", "to_blame"),
    [
        ({"still_s": 9.0, "blocked": True}, {"still_s": 9.0}, None),
        ({"still_s": 90.0, "blocked": True}, {"still_s": 70.0}, 1),
        ({"still_s": 70.0}, {"still_s": 90.0, "blocked": True}, 0),
        ({"still_s": 70.0, "blocked": True}, {"heard_s": 65.0, "blocked": True}, 1),
        ({"still_s": 90.0, "blocked": True}, {"still_s": 70.0, "blocked": True}, 0),
        ({}, {"heard_s": 65.0, "blocked": True}, 1),
    ],
)
def test_who_is_waited_for_is_to_blame(
    first: dict[str, Any], second: dict[str, Any], to_blame: int | None
) -> None:
    ranks = [_placed(0, **first), _placed(1, **second)]
    from training.placed import hung

    assert hung(ranks, 60.0) is (None if to_blame is None else ranks[to_blame])


def test_lines_of_the_others_have_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = _placed(0), _placed(1)
    second.take(Report(printed=[(False, "half "), (True, "an error\n")]))
    first.take(Report(printed=[(False, "as it is\n")]))
    second.take(Report(printed=[(False, "a line\nand more"), (False, "\n")]))
    printed = capsys.readouterr()
    assert printed.out == "as it is\nlearner 1: half a line\nlearner 1: and more\n"
    assert printed.err == "learner 1: an error\n"
