"""Output that cannot be written: told once on the other stream, counted, and never raised."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest

from actors.output import LastingStream
from learner.records.checkpoint import load_latest
from tests.integration.cli import ROOT, read_metrics


def _full() -> TextIO:
    return open("/dev/full", "w", buffering=1)


def _reader_gone() -> TextIO:
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w", buffering=1)


def _terminal_gone() -> TextIO:
    outside, inside = os.openpty()
    os.close(outside)
    return os.fdopen(inside, "w", buffering=1)


def _closed() -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


def _ascii() -> TextIO:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


def test_who_leaves_writes_what_it_printed_and_does_nothing_else() -> None:
    code = "import atexit, sys; from actors.output import leave; "
    code += "atexit.register(print, 'too late'); atexit.register(leave); print('printed'); sys.exit(1)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "printed\n", "and the exit code is 0"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what is left in the buffers
@pytest.mark.parametrize("broken", [_full, _reader_gone, _terminal_gone, _closed, _ascii])
def test_a_stream_that_breaks_is_told_of_once_and_never_raises(broken) -> None:
    other = io.StringIO()
    stream = broken()
    lasting = LastingStream(stream, "standard output", other)
    with pytest.raises((OSError, ValueError)):
        print("\N{BOX DRAWINGS LIGHT ARC DOWN AND RIGHT}", file=stream, flush=True)
    for _ in range(3):
        print("\N{BOX DRAWINGS LIGHT ARC DOWN AND RIGHT}", file=lasting, flush=True)  # type: ignore[arg-type]
    assert lasting.failures >= 3
    assert other.getvalue().count("standard output cannot be written") == 1


def test_a_disk_that_has_room_again_is_written_to_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w", buffering=1) as stream:
        room, full = os.dup(stream.fileno()), os.open("/dev/full", os.O_WRONLY)
        lasting = LastingStream(stream, "standard output", io.StringIO())
        os.dup2(full, stream.fileno())
        print("while it is full", file=lasting, flush=True)  # type: ignore[arg-type]
        assert lasting.failures
        os.dup2(room, stream.fileno())
        print("once there is room", file=lasting, flush=True)  # type: ignore[arg-type]
        for descriptor in (room, full):
            os.close(descriptor)
    assert log.read_text().endswith("once there is room\n")


@pytest.mark.parametrize("told", [True, False], ids=["stdout", "stdout and stderr"])
def test_a_run_whose_output_cannot_be_written_trains_and_saves(told: bool, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [
                *(sys.executable, "launch.py", "train", "cartpole_rtrl", "--runtime", "inline"),
                *("--run-dir", str(tmp_path / "run"), "--wandb.mode", "disabled"),
                *("--total-steps", "8000", "--log-interval-s", "0.01"),
            ],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE if told else full,
            text=True,
        )
    assert result.returncode == 0, result.stderr
    if told:
        assert result.stderr.count("standard output cannot be written") == 1
    last = read_metrics(tmp_path / "run")[-1]
    assert last["global_step"] == load_latest(tmp_path / "run" / "checkpoints").step >= 8000
    assert last["faults/sink_errors"] > 0
