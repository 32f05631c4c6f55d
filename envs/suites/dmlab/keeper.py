"""The program of one engine process, and of whatever that process starts:

    python -m envs.suites.dmlab.keeper SOCKET_FD ALIVE_FD

It runs the engine (engine.py) as its child, in a process group of its own. As soon as the engine has ended,
or the other end of ALIVE_FD is closed, which is also when the actor that holds it dies, in whatever way: it
kills what is left of that group, removes the engine's temporary folder, and ends with the engine's exit
code (128 + n for signal n). So a compilation does not go on without its engine, which cannot see to that
itself: it may be stuck in it. A stop that is signalled to every process of a job is the actor's business,
not an engine's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys
import tempfile
from multiprocessing.connection import Connection

from envs.suites.die_with_parent import die_with_parent

_PR_SET_CHILD_SUBREAPER = 36


def keep(socket: int, alive: int) -> int:
    """Runs the engine; returns its exit code once nothing is left of it."""
    os.set_inheritable(socket, False)  # a compilation would hold it open
    folder = tempfile.mkdtemp(prefix="evertrace_dmlab_")
    ended, held = os.pipe()  # nobody writes: its end is the engine's end
    # What loses its parent in the group becomes a child of this process, which can then wait for its end.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    keeper, engine = os.getpid(), os.fork()
    os.setpgid(engine, engine or os.getpid())  # by both, since either may be the first
    if engine == 0:
        os.close(alive)
        die_with_parent(keeper)
        # After the fork: the keeper needs nothing of it.
        from envs.suites.dmlab.engine import serve

        serve(Connection(socket), folder)
        sys.exit()
    os.close(socket)
    os.close(held)
    select.select([alive, ended], [], [])
    os.killpg(engine, signal.SIGKILL)  # not yet waited for, it keeps the group's number from being another's
    _, status = os.waitpid(engine, 0)
    with contextlib.suppress(ChildProcessError):  # once nobody is left
        while True:
            os.waitpid(-engine, 0)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        print(f"the engine's temporary folder stays: {error}", file=sys.stderr)
    return _exit_code(status)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def main(socket: int, alive: int) -> int:
    """Keeps the engine in a child: Ray kills the children of an actor that it ends, but not theirs."""
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.SIG_IGN)
    keeper = os.fork()
    if keeper == 0:
        return keep(socket, alive)
    os.close(socket)
    os.close(alive)
    return _exit_code(os.waitpid(keeper, 0)[1])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
