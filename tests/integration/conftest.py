"""Fixtures that run the command line and look for what it leaves behind."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli import PATIENCE_S, Launch, leavings


@pytest.fixture
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="et-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def launch(temporary: Path) -> Iterator[Launch]:
    runner = Launch(temporary)
    yield runner
    runner.close()


@pytest.fixture
def nothing_left(temporary: Path) -> Iterator[None]:
    """No process of Ray or W&B, no folder of a Ray session may outlive the test."""
    before = leavings(temporary)
    yield
    deadline = time.monotonic() + PATIENCE_S
    while (left := leavings(temporary) - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, f"left behind: {sorted(left)}"
