"""Paths as they are typed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.error import ConfigError
from configs.paths import absolute, new_file_argument, path_argument


def test_the_home_is_found_or_its_owner_is_said_not_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute("~/x/../y") == path_argument("~/y") == new_file_argument("~/y") == tmp_path / "y"
    with pytest.raises(ConfigError, match=r"path '~nobodyhere/x': .*home"):
        absolute("~nobodyhere/x")
    with pytest.raises(ConfigError, match="path '': name a file or a folder"):
        absolute("")
    for kind in (path_argument, new_file_argument):
        with pytest.raises(argparse.ArgumentTypeError, match="~nobodyhere"):
            kind("~nobodyhere/x")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda folder: folder, "is a folder"),
        (lambda folder: folder / "none" / "x.json", "there is no folder .*none"),
        (lambda folder: folder / "file" / "x.json", "there is no folder .*file"),
    ],
)
def test_a_file_that_cannot_be_made_is_refused_before_the_work(
    tmp_path: Path, place: Callable[[Path], Path], words: str
) -> None:
    (tmp_path / "file").touch()
    assert new_file_argument(str(tmp_path / "file")) == tmp_path / "file"
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        new_file_argument(str(place(tmp_path)))
