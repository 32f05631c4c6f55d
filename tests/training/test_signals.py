"""What signals do to a process that trains, and what becomes of those that hang on it."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack

import psutil
import pytest

from tests.integration.cli import PATIENCE_S, ROOT, runs, wait_until
from training.signals import unwind_on_stop

STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(1e4)"
ASKED = """
import subprocess, sys, time
from contextlib import ExitStack
from training.signals import on_stop

on_stop(ExitStack(), lambda name: print("asked by", name, flush=True))
one_more = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
subprocess.run([sys.executable, "-c", one_more, sys.argv[1]])
"""
WATCHES = """
import sys, threading, time
from training.rank import _end_with

threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
time.sleep(1e4)
"""


def _started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_the_second_interrupt_kills_all_that_was_started() -> None:
    process = _started(ASKED, STUBBORN)
    assert process.stdout is not None
    try:
        wait_until(lambda: len(psutil.Process(process.pid).children(recursive=True)) == 2, of=process)
        children = psutil.Process(process.pid).children(recursive=True)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            process.send_signal(number)
            assert process.stdout.readline() == f"asked by {number.name}\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        wait_until(lambda: not any(map(runs, children)))
    finally:
        process.kill()
        process.communicate()


def test_what_unwinds_ends_by_a_hangup_but_not_where_that_is_ignored() -> None:
    before = signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM)
    for ignored in (False, True):
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        try:
            with ExitStack() as stack:
                unwind_on_stop(stack)
                for number in (signal.SIGTERM, *([] if ignored else [signal.SIGHUP])):
                    with pytest.raises(SystemExit, match=str(128 + number)):
                        signal.raise_signal(number)
                assert (signal.getsignal(signal.SIGHUP) == signal.SIG_IGN) == ignored
        finally:
            signal.signal(signal.SIGHUP, before[0])
        assert (signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("early", [True, False])
def test_a_rank_ends_with_its_driver(early: bool) -> None:
    """Whether that goes before the rank looks for it, or after."""
    driver = _started(STUBBORN)
    if early:
        driver.kill()
        driver.wait()
    rank = _started(WATCHES, str(driver.pid))
    try:
        if not early:
            wait_until(lambda: psutil.Process(rank.pid).num_threads() == 2, of=rank)
            driver.kill()
        assert rank.wait(PATIENCE_S) == 1
    finally:
        for process in (driver, rank):
            process.kill()
            process.communicate()
