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
from typing import Any

STOPS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def deaf() -> Iterator[None]:
    """Processes that are begun inside never hear STOPS. This one does, by the handlers that it has: Ray would
    set its own as it begins to start, by which a process that is asked to end just does.

    On the main thread.
    """
    set_handler, handlers = signal.signal, {number: signal.getsignal(number) for number in STOPS}

    def keep(number: int, handler: Any) -> Any:
        return handlers[signal.Signals(number)] if number in STOPS else set_handler(number, handler)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        signal.signal = keep  # of all that is called meanwhile
        yield
    finally:
        signal.signal = set_handler
        for number, handler in handlers.items():
            signal.signal(number, handler)  # below Python's, Ray's library has set one too
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear() -> None:
    """In a worker, on its main thread, from which threads and processes of its own inherit it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


HEAR = f"{hear.__module__}.{hear.__name__}"
"""For Ray, which calls it at the start of each worker."""
