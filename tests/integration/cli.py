"""The command line as a user meets it: real processes, real Ray, real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

PATIENCE_S = 480.0
"""How long a test waits for what must happen: so long that only what never happens fails, on a machine
that is several times slower and has other work beside it too."""
MARK = "EVERTRACE_TEST_SESSION"
"""Set by tests/conftest.py; every process that a test starts inherits it."""
ROOT = Path(__file__).resolve().parents[2]


class Launch:
    """Runs `launch.py`; ends what a failed test has left."""

    def __init__(self, temporary: Path) -> None:
        """`temporary`: where the runs make temporary folders; a short path, for the sake of Unix sockets."""
        self._temporary = temporary
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "launch.py", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"TMPDIR": str(self._temporary)} | environment,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def __call__(self, *arguments: str, timeout_s: float = PATIENCE_S) -> tuple[int, str]:
        """Exit code and everything it printed."""
        return ended(self.start(*arguments), timeout_s)

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def leavings(temporary: Path) -> set[str]:
    """What runs may leave: processes of Ray and W&B, temporary folders of Ray sessions.

    Shared memory that they leave would have a name; `named_shared_memory` shows that none ever has one.
    """
    found: set[str] = set()
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):  # the environment of a zombie is None
        if (process.info["environ"] or {}).get(MARK) == os.environ[MARK] and process.pid != os.getpid():
            found.add(f"process {process.pid} {' '.join(process.info['cmdline'] or [])[:100]}")
    return found | {f"folder {path}" for path in temporary.glob("evertrace-ray-*")}


def named_shared_memory(process: psutil.Process) -> list[str]:
    """Segments that a process uses and that would outlive it if it were killed now: none, if it has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [line for line in lines if "/dev/shm/" in line and not line.endswith("(deleted)")]


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def living(name: str) -> list[psutil.Process]:
    """The processes below this one whose name begins so, and that have not ended."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if runs(process) and process.name().startswith(name):
                found.append(process)
    return found


def ended(process: subprocess.Popen[str], timeout_s: float = PATIENCE_S) -> tuple[int, str]:
    """Exit code and everything it printed, once it has ended."""
    output, _ = process.communicate(timeout=timeout_s)
    return process.returncode, output


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Of a run that may be writing: a line that is not whole yet is not there yet."""
    whole, _, _ = (run_dir / "metrics.jsonl").read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def rows_logged(run_dir: Path) -> int:
    """0 also where the run has not come so far as to make the file."""
    return len(read_metrics(run_dir)) if (run_dir / "metrics.jsonl").exists() else 0


def wait_until(
    happened: Callable[[], bool],
    timeout_s: float = PATIENCE_S,
    interval_s: float = 0.05,
    of: subprocess.Popen[str] | None = None,
) -> None:
    """Fails after `timeout_s`, or as soon as the process `of` which it is expected has ended without it."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        if of is not None and of.poll() is not None and not happened():
            printed = of.stdout.read() if of.stdout is not None else ""
            raise AssertionError(
                f"the process ended with {of.returncode}, and it had not happened\n{printed}"
            )
        assert time.monotonic() < deadline, f"it did not happen within {timeout_s:g} s"
        time.sleep(interval_s)
