"""An actor container: a node of the head's Ray cluster, on which Ray places rollout workers.

It ends when the head has gone. docker-compose starts it again after a failure, to join a head that was
restarted; without one it then ends for good, so that a finished run leaves nothing running.
"""

from __future__ import annotations

import os
import socket
import sys
import time

HEAD, PORT = "head", 6379
WAIT_S = 120.0
"""How long the head is waited for. It starts at the same time as the actors, or is started again."""


def answers(head: str, port: int, timeout_s: float) -> bool:
    """Whether somebody listens at head:port within `timeout_s`. The name is looked up anew each time."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((head, port), timeout=5).close()
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.5)
        else:
            return True


def main() -> int:
    if not answers(HEAD, PORT, WAIT_S):
        print(f"no head at {HEAD}:{PORT} for {WAIT_S:g} s: nothing to act for")
        return 0
    cpus, store = int(os.environ["ACTOR_CPUS"]), int(os.environ["OBJECT_STORE_MIB"]) * 2**20
    command = ["ray", "start", f"--address={HEAD}:{PORT}", f"--num-cpus={cpus}", "--num-gpus=0"]
    os.execvp("ray", [*command, f"--object-store-memory={store}", "--block"])


if __name__ == "__main__":
    sys.exit(main())
