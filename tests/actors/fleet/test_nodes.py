"""What a dead worker's log gives, and what it costs to read it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def _tail(log: Path) -> str:
    """In a process of its own, since actors.fleet.nodes imports Ray, which reads its settings once."""
    code = f"from actors.fleet.nodes import _tail; print(_tail(({str(log)!r},)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_log_that_is_gone_is_said_and_not_raised(tmp_path: Path) -> None:
    assert f"({tmp_path / 'worker.out'} cannot be read: No such file" in _tail(tmp_path / "worker.out")


def test_of_a_log_larger_than_memory_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "worker.out"
    with log.open("wb") as file:
        file.truncate(2**40)  # sparse: it takes no room on the disk
        file.seek(0, 2)
        file.write(b"\n:job_id:01000000\nthe emulator says goodbye\n\xff\n")
    text = _tail(log)
    assert text.endswith("the emulator says goodbye\n\ufffd\n") and "job_id" not in text
    assert len(text) < 100_000
