"""Signals that ask for a stop, which Ray's own processes are not to hear.

Where all processes of a job are asked to end at once (a service manager, a terminal that hangs up), a raylet
that heard it would kill its workers within 0.1 s, the learner while it saves among them. So Ray's processes
inherit these signals blocked, as Ray itself has them inherit Ctrl-C; workers, which inherit them as well,
hear them again from their start on. Ray's processes end with the driver: killed, not asked.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOPS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def deaf() -> Iterator[None]:
    """Processes that are begun inside never hear STOPS; this one does so at the latest afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear() -> None:
    """In a worker, on its main thread, from which threads and processes of its own inherit it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


HEAR = f"{hear.__module__}.{hear.__name__}"
"""For Ray, which calls it at the start of each worker."""
