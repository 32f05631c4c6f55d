"""Standard output and error that cannot end a run.

A terminal that was closed, a pipe whose reader has gone, a log on a full disk: each makes `print` raise,
wherever it stands, in this project, in Ray's log monitor or in a library. So the streams themselves are
made to last, once, at the top of a process that trains; whoever prints needs no care of its own.

Where the answer of a program is what it prints (`eval`, `plot`), such an error must stay one: not there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

# A closed stream and a character that its encoding lacks are ValueErrors.
FAILURES = (OSError, ValueError)


class LastingStream:
    """A text stream whose writes never raise. The first failure is told on `other`; all are counted.

    What a full disk refused is tried again with the next write, as far as the stream's own buffer keeps it.
    """

    def __init__(self, stream: TextIO, name: str, other: TextIO) -> None:
        self._stream, self._name, self._other = stream, name, other
        self.failures = 0

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except FAILURES as error:
            self._fail(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except FAILURES as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failures += 1
        if self.failures == 1:
            with suppress(*FAILURES):  # told where it can be; faults/sink_errors counts it in any case
                text = f"{self._name} cannot be written ({error}): the run goes on without it"
                print(text, file=self._other, flush=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def make_output_last() -> None:
    """From now on, in this process, nothing that is printed can raise."""
    out, err = sys.stdout, sys.stderr
    if out is None or err is None:
        return  # begun with a closed descriptor: Python itself drops what is printed there
    sys.stdout = cast("TextIO", LastingStream(out, "standard output", err))
    sys.stderr = cast("TextIO", LastingStream(err, "standard error", out))


def leave() -> None:
    """Ends this process as it stands, but that what it printed is written. For `atexit`, of Ray's workers.

    They have taken their leave of Ray by then. What would follow are the destructors of Ray 2.60's core, and
    they can wait for ever for a lock that they hold (`~CoreWorkerProcessImpl`, where a call that was not
    answered posts to the scheduler that is being shut down): the worker then outlives its run.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(*FAILURES):
            stream.flush()
    os._exit(0)


@contextmanager
def lasting_output() -> Iterator[None]:
    """`make_output_last` for a while. What could not be written by its end is let go, so that the
    interpreter, which writes it at exit, does not turn the exit code of a run that went well into a failure.
    """
    streams = sys.stdout, sys.stderr
    make_output_last()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        for stream in filter(None, streams):
            try:
                stream.flush()
            except OSError:
                _to_nowhere(stream.fileno())
            except ValueError:  # closed: nothing is left to write
                pass


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
