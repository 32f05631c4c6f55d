"""Paths as a shell user means them, resolved where they are given: the working directory may change later."""

from __future__ import annotations

from pathlib import Path


def absolute(text: str) -> Path:
    """`~` and `..` resolved. A shell leaves the `~` of `--run-dir=~/x` as it is."""
    return Path(text).expanduser().resolve()
