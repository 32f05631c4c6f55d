"""The folder of a Ray session of our own: short enough for Unix sockets, its owner's as long as that lives.

The owner holds a lock on a file in it, which falls with its process, however that ends. A process id would
not do: two containers that share a temporary folder do not see each other's processes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.schema import ConfigError

PREFIX = "evertrace-ray-"
SHORT = Path("/tmp")
_LOCK = ".lock"
_LONGEST_SOCKET = 107
"""Bytes of the path of a Unix socket on Linux."""
_IN_SESSION = "12345678/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What follows PREFIX: the random part of our folder's name, then Ray's longest path below it."""


def session_parent(preferred: Path, short: Path = SHORT) -> Path:
    """`preferred`, if the sockets of a session below it have paths short enough, else `short`.

    Raises ConfigError naming TMPDIR, which `preferred` comes from, if `short` cannot be written either.
    """
    room = _LONGEST_SOCKET - len(f"/{PREFIX}{_IN_SESSION}")
    if len(os.fsencode(preferred)) <= room:
        return preferred
    if os.access(short, os.W_OK | os.X_OK):
        return short
    raise ConfigError(
        f"TMPDIR = {str(preferred)!r}: too long for the sockets of Ray, and {short} cannot be written; set "
        f"TMPDIR to a folder whose path has at most {room} bytes"
    )


def remove_abandoned(parent: Path) -> None:
    """Removes the session folders of runs that were killed: those whose lock nobody holds any more."""
    for lock in parent.glob(f"{PREFIX}*/{_LOCK}"):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except OSError:  # another user's, or gone meanwhile
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its owner lives
            continue
        else:
            shutil.rmtree(lock.parent, ignore_errors=True)
        finally:
            os.close(descriptor)


@contextmanager
def session_folder() -> Iterator[Path]:
    """A new folder, below TMPDIR if that is short enough, which is removed at the end.

    Raises ConfigError as `session_parent`.
    """
    parent = session_parent(Path(tempfile.gettempdir()))
    remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    lock = os.open(folder / f"{_LOCK}.new", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(folder / f"{_LOCK}.new", folder / _LOCK)  # under this name it has always been held
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
