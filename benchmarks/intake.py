"""What it costs the learner's thread to take a rollout, by the number of actors that offer some.

    python -m benchmarks.intake [--actors 4 16 32] [--seconds S] [--kib SIZE]

The fleet is the real one, through Ray; its actors only hand out one and the same rollout, of SIZE KiB, as
fast as they are asked. So what is told, CPU and wall microseconds a rollout in `next_rollout`, is the fleet's
own, with Ray's. On a machine with fewer cores than actors wall time is mostly waiting for them.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import numpy as np

from actors.fleet.cluster import ray_session
from actors.rollout import Rollout
from configs.layout import laid_out
from configs.presets import preset
from configs.schema import Config

T = 20


def _rollout(actor_id: int, kib: int) -> Rollout:
    flags = np.zeros((T + 1, 1), np.bool_)
    return Rollout(
        observation=np.zeros((T + 1, 1, kib * 1024 // (T + 1)), np.uint8),
        reward=np.zeros((T + 1, 1), np.float32),
        terminated=flags,
        truncated=flags,
        reset=flags,
        action=np.zeros((T, 1), np.int64),
        behaviour_logits=np.zeros((T, 1, 4), np.float32),
        previous_action=np.zeros(1, np.int64),
        initial_state=(np.zeros((1, 8), np.float32),),
        actor_id=actor_id,
        first_stream=actor_id,
        incarnation=0,
        sequence_number=0,
        policy_version_min=0,
        policy_version_max=0,
    )


class Giver:
    """In the place of `RolloutWorker`: nothing of torch or an environment is imported."""

    def __init__(self, config_json: str, kib: int, actor_id: int, incarnation: int) -> None:
        self._rollout = _rollout(actor_id, kib)

    def identity(self) -> Any:
        from actors.fleet.nodes import identity

        return identity()

    def start(self, versions: Any) -> None: ...

    def collect(self) -> Rollout:
        return self._rollout


def measure(actors: int, seconds: float, kib: int) -> dict[str, float]:
    base = preset("memory_rtrl")
    ray_options = dataclasses.replace(base.ray, rollouts_in_flight=2)
    config: Config = laid_out(
        dataclasses.replace(
            base, num_streams=actors, num_actors=actors, batch_size=1, ray=ray_options, runtime="ray"
        ),
        actors,
    )
    with ray_session(config.ray, config.num_cpus):
        import ray

        from actors.fleet import ray_fleet

        ray_fleet.RolloutWorker = ray.remote(Giver)  # type: ignore[assignment]
        source: Any = kib
        fleet = ray_fleet.RayFleet(config, source)
        seen: set[int] = set()
        while len(seen) < actors:
            rollout = fleet.next_rollout(1.0)
            seen |= set() if rollout is None else {rollout.actor_id}
        taken, wall, cpu = 0, time.perf_counter(), time.thread_time()
        while time.perf_counter() - wall < seconds:
            taken += fleet.next_rollout(1.0) is not None
        used = {"CPU": time.thread_time() - cpu, "wall": time.perf_counter() - wall}
        fleet.close()
    return {name: 1e6 * spent / taken for name, spent in used.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--actors", nargs="+", type=int, default=[4, 16, 32])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--kib", type=int, default=64)
    options = parser.parse_args()
    for actors in options.actors:
        found = measure(actors, options.seconds, options.kib)
        print(
            f"{actors:>4} actors: {found['CPU']:,.0f} us of CPU, {found['wall']:,.0f} us a rollout",
            flush=True,
        )


if __name__ == "__main__":
    main()
