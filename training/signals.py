"""Which signals ask for a clean end, of a run or of many."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import FrameType

import psutil

from actors.fleet.stops import STOPS


def on_stop(stack: ExitStack, ask: Callable[[str], None]) -> None:
    """SIGTERM, SIGHUP and the first SIGINT `ask`, by their names, for a clean end; the second SIGINT kills
    this process and all that it has started. `stack` sets the handlers of before again.

    A SIGHUP that is ignored already (nohup) stays ignored.
    """
    interrupts = 0

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts >= 2:
            # A worker that Ray was just starting would look for its dead parent for half a minute and more.
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            os._exit(130)
        ask(signal.Signals(number).name)

    handled(stack, handle, signal.SIGINT, *STOPS)


def unwind_on_stop(stack: ExitStack) -> None:
    """SIGTERM and SIGHUP unwind like Ctrl-C, so that runs which were started are ended first. As in
    `on_stop` a SIGHUP that is ignored stays so, and `stack` sets the handlers of before again."""

    def handle(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handled(stack, handle, *STOPS)


def handled(stack: ExitStack, handle: Callable[[int, FrameType | None], None], *numbers: int) -> None:
    """These signals, until `stack` ends, by `handle`; but a SIGHUP that is ignored stays so."""
    for number in numbers:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            stack.callback(signal.signal, number, signal.signal(number, handle))
