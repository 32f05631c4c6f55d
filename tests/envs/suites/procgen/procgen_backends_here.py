"""The ProcGen backends of this machine, for the tests of ProcGen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envs.suites.procgen.env import obstacle

ROOT = Path(__file__).resolve().parents[4]
MIRROR = ROOT / "build" / "procgen-mirror"
"""Where `make test` puts the backend `procgen`, whose metadata does not suit .venv."""
BACKENDS = ("envpool", "procgen")


@contextmanager
def mirror_can_be_imported() -> Iterator[None]:
    sys.path.append(str(MIRROR))
    yield
    sys.path.remove(str(MIRROR))


def need(*backends: str) -> None:
    """Skips the test where one of them cannot run, and says what would mend it."""
    for backend in backends:
        if reason := obstacle(backend):
            pytest.skip(f"ProcGen's backend {backend!r} cannot run: {reason}")
