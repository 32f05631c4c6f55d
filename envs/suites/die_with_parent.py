"""A program that becomes another one, which ends with the process that started it:

    python -IS die_with_parent.py PARENT_PID PROGRAM ARGUMENT...

For engines that a library starts: what PR_SET_PDEATHSIG asks of the kernel is forgotten at a fork, and kept
when a process becomes another program. Linux only; it needs the standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when the thread that started it is gone, however it went, even where
    this process is stuck in its engine. `parent` is the process of that thread; exits if it is gone already.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the process that asked for this engine is gone")


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
