"""A fleet on real Ray for tests: small runs, what comes of them, who carries them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from actors.policy import Policy
from actors.rollout import Rollout
from configs.presets import preset
from configs.schema import Config, RayConfig
from envs.make import env_spec
from learner.publish import RayPublisher
from tests.integration.cli import PATIENCE_S, living, wait_until

if TYPE_CHECKING:
    from actors.fleet.ray_fleet import RayFleet


def small(env_id: str = "counting/7", *, actors: int = 2, streams: int = 4, **ray: Any) -> Config:
    """Four streams of two actors, unless said otherwise, and batches of as many."""
    base = preset("cartpole_rtrl")
    return dataclasses.replace(
        base,
        env=dataclasses.replace(base.env, id=env_id, num_envs=-(-streams // actors)),
        num_streams=streams,
        num_actors=actors,
        batch_size=min(4, streams),
        unroll_length=5,
        ray=RayConfig(object_store_mib=100, **ray),
    )


@contextmanager
def running(config: Config) -> Iterator[RayFleet]:
    """In a Ray session; no worker is left when it ends."""
    from actors.fleet.ray_fleet import RayFleet  # imports Ray, whose token `ray_session` sets before

    torch.manual_seed(0)
    publisher = RayPublisher()
    publisher.publish(Policy(env_spec(config.env), config.policy), 0)
    fleet = RayFleet(config, publisher.source)
    try:
        yield fleet
        assert unexplained(fleet) == 0
    finally:
        fleet.close()
        publisher.close()
        # Ray kills in its own time, and a worker that still lives would take the next test's fault.
        wait_until(lambda: not live_workers())


def unexplained(fleet: RayFleet) -> int:
    """Unrolls that were asked for, and of which nobody knows what became."""
    unrolls = fleet.unrolls()
    ends = ("arrived", "under_way", "lost_calls", "lost_actors", "let_go")
    return unrolls["asked"] - sum(unrolls[name] for name in ends)


def live_workers() -> list[int]:
    return [process.pid for process in living("ray::RolloutWo")]


def take(fleet: RayFleet, count: int, timeout_s: float = PATIENCE_S) -> list[Rollout]:
    taken: list[Rollout] = []
    deadline = time.monotonic() + timeout_s
    while len(taken) < count and time.monotonic() < deadline:
        rollout = fleet.next_rollout(timeout_s=1.0)
        if rollout is not None:
            taken.append(rollout)
    assert len(taken) == count, f"{len(taken)} of {count} rollouts within {timeout_s} s"
    return taken


def take_until(fleet: RayFleet, done: Callable[[], bool], timeout_s: float = PATIENCE_S) -> list[Rollout]:
    taken: list[Rollout] = []
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"it did not happen within {timeout_s} s"
        rollout = fleet.next_rollout(timeout_s=1.0)
        taken += [] if rollout is None else [rollout]
    return taken


def lives(rollouts: list[Rollout]) -> dict[tuple[int, int], list[int]]:
    """Sequence numbers by actor and incarnation."""
    found: dict[tuple[int, int], list[int]] = {}
    for rollout in rollouts:
        found.setdefault((rollout.actor_id, rollout.incarnation), []).append(rollout.sequence_number)
    return found
