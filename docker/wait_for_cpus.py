"""Waits until the nodes of a Ray cluster offer enough CPUs; prints `offered N`.

python docker/wait_for_cpus.py ADDRESS NEEDED      NEEDED 0: as many as there are when no more come
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

SETTLED_S = 15.0
"""Without a new CPU for so long, no more are thought to come."""
REMIND_S = 30.0
"""Seconds between two lines about what is waited for."""


def wait(
    needed: int,
    offered: Callable[[], int],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """CPUs offered, once they are `needed`; for 0, once some are and no more have come for SETTLED_S."""
    last, changed = -1, clock()
    reminded = clock()
    while True:
        now, cpus = clock(), offered()
        if cpus != last:
            last, changed = cpus, now
        if cpus and (cpus >= needed if needed else now - changed >= SETTLED_S):
            return cpus
        if now - reminded >= REMIND_S:
            reminded = now
            print(
                f"head: the actor containers offer {cpus} CPUs, the run needs {needed or 'at least 1'}: "
                "start more (docker-compose up -d --scale actor=N), or set ACTOR_CPUS, the CPUs of each",
                file=sys.stderr,
                flush=True,
            )
        sleep(1.0)


def main(address: str, needed: int) -> None:
    import ray

    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    cpus = wait(needed, lambda: int(ray.cluster_resources().get("CPU", 0)))
    print(f"offered {cpus}", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
