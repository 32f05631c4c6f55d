"""A fleet of two actors whose calls get lost: `python -m tests.actors.fleet.lossy GAPS`, with
RAY_testing_rpc_failure set, which Ray reads once a process. Prints what came of it, as JSON.

It goes on until what is looked for has come, however long that takes: two calls lost, rollouts of both actors
after that, and with GAPS = yes one that was made and never arrived.
"""

from __future__ import annotations

import json
import sys
import time

import torch

from actors.fleet.cluster import ray_session
from actors.policy import Policy
from actors.rollout import Rollout
from actors.weights import WeightSnapshot
from configs.schema import RayConfig
from envs.make import env_spec
from learner.publish import HostCopy
from tests.actors.fleet.fleets import lives, small, unexplained
from tests.integration.cli import PATIENCE_S

EACH = 5
"""Rollouts of each actor after the second lost call."""


class Fixed:
    """The same weights always, from no other process: all calls of the driver are to actors of the fleet."""

    def __init__(self, snapshot: WeightSnapshot) -> None:
        self._snapshot = snapshot

    def fetch(self, newer_than: int) -> WeightSnapshot | None:
        return self._snapshot if newer_than < self._snapshot.version else None


def gaps(rollouts: list[Rollout]) -> int:
    """Rollouts that were made before one that arrived, and did not arrive."""
    return sum(max(numbers) + 1 - len(set(numbers)) for numbers in lives(rollouts).values())


def main(wants_gaps: bool) -> None:
    config = small()
    torch.manual_seed(0)
    snapshot = HostCopy(Policy(env_spec(config.env), config.policy), 0).snapshot()
    with ray_session(RayConfig(object_store_mib=100), num_cpus=2):
        from actors.fleet import crew  # imports Ray, whose token `ray_session` sets before
        from actors.fleet.ray_fleet import RayFleet

        # How long an actor may leave its verdict unheard is measured in seconds; a slow machine takes some
        # for each of the calls that are lost.
        crew.VERDICT_S = PATIENCE_S
        fleet = RayFleet(config, Fixed(snapshot))
        began = time.monotonic()
        rollouts: list[Rollout] = []
        after: list[int] = []

        def done() -> bool:
            told = not wants_gaps or gaps(rollouts) > 0
            return told and all(after.count(actor_id) >= EACH for actor_id in range(config.num_actors))

        while not done() and time.monotonic() - began < PATIENCE_S:
            rollout = fleet.next_rollout(timeout_s=1.0)
            if rollout is not None:
                rollouts.append(rollout)
                after += [rollout.actor_id] if fleet.counters.lost_calls >= 2 else []
        numbers = list(lives(rollouts).values())
        print(
            json.dumps(
                {
                    "done": done(),
                    "lost": fleet.counters.lost_calls,
                    "restarts": fleet.counters.actor_restarts,
                    "lives": len(numbers),
                    "in order": all(one == sorted(set(one)) for one in numbers),
                    "gaps": gaps(rollouts),
                    "rollouts": len(rollouts),
                    "missing": fleet.unrolls()["missing"] / rollouts[0].num_streams,
                    "lost with calls": fleet.unrolls()["lost_calls"] / rollouts[0].num_streams,
                    "unexplained": unexplained(fleet),
                    "seconds": round(time.monotonic() - began, 1),
                }
            ),
            flush=True,
        )
        fleet.close()


if __name__ == "__main__":
    main(sys.argv[1] == "yes")
