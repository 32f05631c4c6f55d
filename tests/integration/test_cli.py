"""What the tests of whole runs stand on: waiting, reading a file as it is written, looking for leavings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.integration.cli import leavings, named_shared_memory, read_metrics, wait_until

SEGMENT = """
import sys
from multiprocessing import shared_memory
segment = shared_memory.SharedMemory(create=True, size=10)
print(segment.name, flush=True)
sys.stdin.read()
segment.close()
segment.unlink()
"""


@contextmanager
def _another_program() -> Iterator[tuple[psutil.Process, str]]:
    """A process with a segment of shared memory, and that segment's name."""
    command, pipe = [sys.executable, "-c", SEGMENT], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield psutil.Process(process.pid), process.stdout.readline().strip()


def test_the_shared_memory_of_other_programs_is_nobodys_leaving(tmp_path: Path) -> None:
    before = leavings(tmp_path)
    with _another_program() as (_, name):
        assert (Path("/dev/shm") / name).exists()
        assert not [found for found in leavings(tmp_path) - before if name in found]


def test_a_segment_with_a_name_is_found_in_the_hands_of_its_process() -> None:
    with _another_program() as (process, name):
        assert [line.split("/")[-1] for line in named_shared_memory(process)] == [name]
    assert named_shared_memory(psutil.Process()) == []


def test_waiting_ends_with_the_process_that_is_waited_for() -> None:
    command, pipe = [sys.executable, "-c", "print('last words'); raise SystemExit(3)"], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, text=True) as process:
        with pytest.raises(AssertionError, match=r"(?s)the process ended with 3.*last words"):
            wait_until(lambda: False, of=process)
        wait_until(lambda: process.returncode == 3, of=process)


def test_waiting_has_an_end() -> None:
    soon = 0.1
    with pytest.raises(AssertionError, match=r"within 0\.1 s"):
        wait_until(lambda: False, timeout_s=soon)


def test_a_line_that_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"global_step": 1}\n{"global_step": 2}\n{"global_st')
    assert [row["global_step"] for row in read_metrics(tmp_path)] == [1, 2]
