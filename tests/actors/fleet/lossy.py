"""A fleet of two actors whose calls get lost: `python -m tests.actors.fleet.lossy`, with
RAY_testing_rpc_failure set, which Ray reads once a process. Prints what came of it, as JSON."""

from __future__ import annotations

import json
import time

import torch

from actors.fleet.cluster import ray_session
from actors.policy import Policy
from actors.weights import WeightSnapshot
from configs.schema import RayConfig
from envs.make import env_spec
from learner.publish import HostCopy
from tests.actors.fleet.fleets import lives, small, take

ROLLOUTS = 40


class Fixed:
    """The same weights always, from no other process: all calls of the driver are to actors of the fleet."""

    def __init__(self, snapshot: WeightSnapshot) -> None:
        self._snapshot = snapshot

    def fetch(self, newer_than: int) -> WeightSnapshot | None:
        return self._snapshot if newer_than < self._snapshot.version else None


def main() -> None:
    config = small()
    torch.manual_seed(0)
    snapshot = HostCopy(Policy(env_spec(config.env), config.policy), 0).snapshot()
    with ray_session(RayConfig(object_store_mib=100), num_cpus=2):
        from actors.fleet.ray_fleet import RayFleet  # imports Ray, whose token `ray_session` sets before

        fleet = RayFleet(config, Fixed(snapshot))
        began = time.monotonic()
        rollouts = take(fleet, ROLLOUTS)
        numbers = list(lives(rollouts).values())
        print(
            json.dumps(
                {
                    "lost": fleet.counters.lost_calls,
                    "restarts": fleet.counters.actor_restarts,
                    "lives": len(numbers),
                    "in order": all(one == sorted(set(one)) for one in numbers),
                    "gaps": sum(max(one) + 1 - len(one) for one in numbers),
                    "seconds": round(time.monotonic() - began, 1),
                }
            ),
            flush=True,
        )
        fleet.close()


if __name__ == "__main__":
    main()
