"""The near side of an engine process (`keeper.py`): starting it, asking it, and what it died of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from typing import IO, Any

from envs.spec import EnvError

CLOSING_S = 5.0
"""Seconds an engine has to close itself before it is killed."""
_CLEARING_S = 60.0
"""Seconds its keeper then has to clear up."""
_LAST_LINES = 20
_ROOT = Path(__file__).resolve().parents[3]


class EngineProcess:
    """One engine in a process of its own. Every `send` is a request; `receive` has their answers, in order.

    Raises EnvError, with the engine's own words, for a request that failed and for a process that died.
    """

    def __init__(self, name: str, renderer_threads: int) -> None:
        """`name`: what errors call this engine."""
        self.name = name
        self.pid: int | None = None
        """Of the engine, once it is open."""
        self._connection, theirs = Pipe()
        alive, held = os.pipe()
        self._alive: int | None = held
        """Closed, by us or by the death of this process, it ends the engine and all that it has started."""
        self._owed = 0
        # What can be imported here can be there: an actor's path may not be that of its environment.
        path = [str(_ROOT), *(entry for entry in sys.path if entry)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path),
            "LP_NUM_THREADS": str(renderer_threads),  # llvmpipe's; by itself it starts one a core
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "envs.suites.dmlab.keeper", str(theirs.fileno()), str(alive)],
            pass_fds=(theirs.fileno(), alive),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,  # Ctrl-C in a terminal is for the run, which closes its engines in order
        )
        theirs.close()
        os.close(alive)
        assert self._process.stdout is not None
        # Somebody must read what the engine prints, or it would wait; the last lines say what went wrong.
        self._printed: deque[bytes] = deque(maxlen=_LAST_LINES)
        self._reader = Thread(target=_keep_last, args=(self._process.stdout, self._printed), daemon=True)
        self._reader.start()

    def send(self, command: str, *arguments: object) -> None:
        self._owed += 1
        try:
            self._connection.send((command, arguments))
        except (BrokenPipeError, ConnectionResetError):
            self._raise_death()

    def receive(self) -> Any:
        try:
            kind, result = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._raise_death()
        self._owed -= 1
        if kind == "error":
            self.hang_up()
            self.reap()
            raise EnvError(f"{self.name}: the engine failed: {result}; {self._last_words()}")
        return result

    def _raise_death(self) -> Any:
        self.reap()
        code = self._process.returncode
        how = f"-{code - 128} ({signal.Signals(code - 128).name})" if code > 128 else str(code)
        raise EnvError(
            f"{self.name}: the engine's process ended with exit code {how}; {self._last_words()}"
        ) from None

    def _last_words(self) -> str:
        printed = b"".join(self._printed).decode(errors="replace").strip()
        return f"its last words:\n{printed}" if printed else "it printed nothing"

    def hang_up(self) -> None:
        """The engine closes itself, or is killed if it still owes an answer; `reap` waits for the end."""
        self._connection.close()
        if self._owed:
            self._kill()

    def reap(self, deadline: float | None = None) -> None:
        """`deadline`: when an engine that does not close itself is killed (monotonic; CLOSING_S from now)."""
        try:
            self._process.wait(CLOSING_S if deadline is None else max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._kill()
            try:
                self._process.wait(_CLEARING_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._kill()
        self._reader.join(CLOSING_S)

    def _kill(self) -> None:
        if self._alive is not None:
            os.close(self._alive)
        self._alive = None


def _keep_last(stream: IO[bytes], lines: deque[bytes]) -> None:
    with stream:
        lines.extend(stream)


def close_all(engines: Iterable[EngineProcess]) -> None:
    """Ends them together, so that the slowest one's time is what it takes."""
    engines = list(engines)
    for engine in engines:
        engine.hang_up()
    deadline = time.monotonic() + CLOSING_S
    for engine in engines:
        engine.reap(deadline)
