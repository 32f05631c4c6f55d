"""Fixtures that run the command line and look for what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.integration.cli import Launch, leavings


@pytest.fixture
def launch() -> Iterator[Launch]:
    runner = Launch()
    yield runner
    runner.close()


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No process of Ray or W&B, no folder of a Ray session, no shared memory may outlive the test."""
    before = leavings()
    yield
    deadline = time.monotonic() + 20
    while (left := leavings() - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, f"left behind: {sorted(left)}"
