"""The near side of an engine process (`engine.py`): starting it, asking it, and what it died of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from typing import IO, Any

from envs.spec import EnvError

CLOSING_S = 5.0
"""Seconds an engine has to close itself before its process is killed."""
_LAST_LINES = 20
_ROOT = Path(__file__).resolve().parents[3]


class EngineProcess:
    """One engine in a process of its own. Every request is a `send`, then a `receive`.

    Raises EnvError, with the engine's own words, for a request that failed and for a process that died.
    """

    def __init__(self, name: str) -> None:
        """`name`: what errors call this engine."""
        self.name = name
        self._connection, theirs = Pipe()
        # What can be imported here can be there: an actor's path may not be that of its environment.
        path = [str(_ROOT), *(entry for entry in sys.path if entry)]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "envs.suites.dmlab.engine", str(theirs.fileno()), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
            process_group=0,  # Ctrl-C in a terminal is for the run, which closes its engines in order
        )
        theirs.close()
        assert self._process.stdout is not None
        # Somebody must read what the engine prints, or it would wait; the last lines say what it died of.
        self._printed: deque[bytes] = deque(maxlen=_LAST_LINES)
        self._reader = Thread(target=_keep_last, args=(self._process.stdout, self._printed), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, command: str, *arguments: object) -> None:
        try:
            self._connection.send((command, arguments))
        except (BrokenPipeError, ConnectionResetError):
            self._raise_death()

    def receive(self) -> Any:
        try:
            kind, result = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._raise_death()
        if kind == "error":
            raise EnvError(f"{self.name}: the engine failed: {result}")
        return result

    def _raise_death(self) -> Any:
        code = self._process.wait()
        self._reader.join(CLOSING_S)
        how = f"{code} ({signal.Signals(-code).name})" if code < 0 else str(code)
        printed = b"".join(self._printed).decode(errors="replace").strip()
        raise EnvError(
            f"{self.name}: the engine's process ended with exit code {how}; "
            + (f"its last words:\n{printed}" if printed else "it printed nothing")
        ) from None

    def hang_up(self) -> None:
        """The engine closes itself and its process ends; `reap` waits for that."""
        self._connection.close()

    def reap(self) -> None:
        try:
            self._process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(CLOSING_S)


def _keep_last(stream: IO[bytes], lines: deque[bytes]) -> None:
    with stream:
        lines.extend(stream)


def close_all(engines: Iterable[EngineProcess]) -> None:
    """Ends them together, so that the slowest one's time is what it takes."""
    engines = list(engines)
    for engine in engines:
        engine.hang_up()
    for engine in engines:
        engine.reap()
