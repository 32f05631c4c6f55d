"""Paths as a shell user means them, resolved where they are given: the working directory may change later."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from configs.error import ConfigError


def absolute(text: str) -> Path:
    """`~` and `..` resolved. A shell leaves the `~` of `--run-dir=~/x` as it is.

    Raises ConfigError for no path at all, and for the home of somebody who is not there.
    """
    if not text:
        raise ConfigError("path '': name a file or a folder; . is the one that you are in")
    try:
        return Path(text).expanduser().resolve()
    except RuntimeError as error:
        raise ConfigError(f"path {text!r}: {error}") from error


def path_argument(text: str) -> Path:
    """`absolute`, as the type of an argument of argparse."""
    try:
        return absolute(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def new_file_argument(text: str) -> Path:
    """The same of a file to be written after long work: one that cannot be made is refused at once."""
    path = path_argument(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder, and a file is to be written")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path} cannot be written: permission denied")
    return path


def write_whole(path: Path, text: str, *, lasting: bool = True) -> None:
    """The file appears whole or not at all, whoever else writes it. `lasting`: a power cut does not empty it,
    which costs a wait for the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        if lasting:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)
