"""Is this container's part of the Ray cluster alive? Exit code 0 if so; else 1, and the reason.

A node is alive while its raylet runs and the head answers on Ray's port. Ray itself is not imported, since
that costs more than a check every half minute should.
"""

from __future__ import annotations

import socket
import sys

import psutil

HEAD, PORT = "head", 6379


def fault(head: str, port: int) -> str | None:
    """What is wrong with this node; None: nothing."""
    if not any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"])):
        return "no raylet runs in this container"
    try:
        socket.create_connection((head, port), timeout=5).close()
    except OSError as error:
        return f"the head does not answer at {head}:{port}: {error}"
    return None


if __name__ == "__main__":
    found = fault(HEAD, PORT)
    print(found or "alive")
    sys.exit(found is not None)
