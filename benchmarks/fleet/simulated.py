"""Simulated actors: real Ray workers that hand out one and the same rollout, as fast as they are asked or at
a rate. Nothing of torch or an environment is imported there."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple

import numpy as np

from actors.rollout import Rollout
from configs.layout import laid_out
from configs.presets import preset
from configs.schema import Config

UNITS, ACTIONS = 256, 4


class Shape(NamedTuple):
    """Of the rollouts of one actor."""

    unroll_length: int
    slots: int
    observation: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """On the wire, the observations alone."""
        return (self.unroll_length + 1) * self.slots * int(np.prod(self.observation))


def rollout(shape: Shape, actor_id: int) -> Rollout:
    T, E = shape.unroll_length, shape.slots
    flags = np.zeros((T + 1, E), np.bool_)
    return Rollout(
        observation=np.zeros((T + 1, E, *shape.observation), np.uint8),
        reward=np.zeros((T + 1, E), np.float32),
        terminated=flags,
        truncated=flags,
        reset=flags,
        action=np.zeros((T, E), np.int64),
        behaviour_logits=np.zeros((T, E, ACTIONS), np.float32),
        previous_action=np.zeros(E, np.int64),
        initial_state=(np.zeros((E, UNITS), np.float32),),
        actor_id=actor_id,
        first_stream=actor_id * E,
        incarnation=0,
        sequence_number=0,
        policy_version_min=0,
        policy_version_max=0,
    )


class Giver:
    """In the place of `RolloutWorker`. Its source of weights is the rollouts' shape, and their number a
    second (0: no limit)."""

    def __init__(self, config_json: str, source: tuple[Shape, float], actor_id: int, *_: int):
        shape, self._rate = source
        self._rollout, self._next, self._made = rollout(shape, actor_id), 0.0, 0

    def identity(self) -> Any:
        from actors.fleet.nodes import identity

        return identity()

    def start(self, versions: Any) -> None: ...

    def collect(self) -> Rollout:
        if self._rate:
            now = time.monotonic()
            time.sleep(max(0.0, self._next - now))
            self._next = max(self._next, now) + 1 / self._rate
        self._made += 1
        return dataclasses.replace(self._rollout, sequence_number=self._made, finished_at=time.time())


def config_of(actors: int, shape: Shape, batch_size: int) -> Config:
    """A run that takes such rollouts."""
    base = preset("memory_rtrl")
    config = dataclasses.replace(
        base,
        runtime="ray",
        actor_device="cpu",
        num_actors=actors,
        num_streams=actors * shape.slots,
        batch_size=batch_size,
        unroll_length=shape.unroll_length,
    )
    return laid_out(config, actors)


def simulated_fleet(config: Config, shape: Shape, rate: float = 0.0) -> Any:
    """`rate`: rollouts a second of each actor; 0: as fast as they are asked for. In a Ray session."""
    import ray

    from actors.fleet.ray_fleet import RayFleet

    source: Any = (shape, rate)
    return RayFleet(config, source, worker_class=ray.remote(Giver))


def store_mib(config: Config, shape: Shape) -> int:
    """Of an object store that holds what is asked for, and what the learner has in hand."""
    held = config.num_actors * (config.ray.rollouts_in_flight + 2) * shape.nbytes
    return max(256, int(1.5 * held / 2**20))


def until_all_give(fleet: Any, actors: int) -> None:
    seen: set[int] = set()
    while len(seen) < actors:
        taken = fleet.next_rollout(1.0)
        seen |= set() if taken is None else {taken.actor_id}
