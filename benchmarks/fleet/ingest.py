"""GB/s of rollouts through the data path of one learner, and what bounds it.

    launch.py bench ingest [--actors 2] [--slots 16] [--unroll-length 50] [--observation 84 84 1]
                           [--batch-size 32] [--rate GB/s] [--learner-ms 0] [--pairs N] [--seconds S]
                           [--json FILE]

    simulated actors --> object store --> fleet --> Batcher: joined on the host --> the learner's device

Nothing is learned: a batch keeps the learner's thread for --learner-ms, asleep, as if a GPU were at work.
Three measurements take turns: that thread makes the batches in between (`ingest`); a thread beside it does
(`prefetched`); and a plain copy of memory by one thread, which each byte needs once in an actor, into the
object store, and once in the learner, out of it. Counted are the bytes of observations in batches.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from actors.fleet.cluster import ray_session
from actors.rollout import Rollout
from benchmarks import pairs
from benchmarks.fleet.simulated import Shape, config_of, simulated_fleet, store_mib, until_all_give
from benchmarks.verb import asked, parser, save, with_pairs
from configs.error import require
from learner.learner import resolve_device
from learner.prefetch import Feed, InTurn, Prefetcher

COPIED = 64 * 2**20
"""Bytes of a copy: more than caches hold."""
IDLE = 0.2
"""Of the time waiting for rollouts, and it is not the thread that takes and joins them that bounds."""
JOINER = "CPU of the thread that takes and joins"


class Intake:
    """A fleet that times whichever thread asks."""

    def __init__(self, fleet: Any) -> None:
        self._fleet = fleet
        self.waiting = self.cpu = 0.0

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        start = time.perf_counter()
        rollout = self._fleet.next_rollout(timeout_s, skip)
        self.waiting += time.perf_counter() - start
        self.cpu = time.thread_time()
        return rollout


class Window:
    """A while of the data path, from the first batch that was asked for."""

    def __init__(
        self, feed: Feed, intake: Intake, device: torch.device, seconds: float, learner_s: float
    ) -> None:
        batches, joining, waiting, cpu = 0, 0.0, intake.waiting, intake.cpu
        start = time.perf_counter()
        while time.perf_counter() - start < seconds or not batches:
            batch = feed.take()
            if batch is None:
                feed.wait()
                continue
            batches += 1
            joining += 1e-3 * batch.joining_ms
            time.sleep(learner_s)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds = time.perf_counter() - start
        self.batches = batches
        spent = {"waiting": intake.waiting - waiting, "joining": joining, JOINER: intake.cpu - cpu}
        self.shares = {name: value / self.seconds for name, value in spent.items()}


def copy_rate(seconds: float) -> float:
    """GB/s of a copy from memory to memory, by one thread. Each byte counts once."""
    here, there = np.zeros(COPIED, np.uint8), np.ones(COPIED, np.uint8)
    np.copyto(here, there)
    copies, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds or not copies:
        np.copyto(here, there)
        copies += 1
    return 1e-9 * COPIED * copies / (time.perf_counter() - start)


def measure(
    actors: int,
    shape: Shape,
    batch_size: int,
    rate: float,
    learner_s: float,
    number: int,
    seconds: float,
) -> dict[str, Any]:
    """`rate`: GB/s that all actors offer together; 0: no limit."""
    config, device = config_of(actors, shape, batch_size), resolve_device("auto")
    ray = dataclasses.replace(config.ray, object_store_mib=store_mib(config, shape))
    config = dataclasses.replace(config, ray=ray)
    per_batch = shape.nbytes / shape.slots * batch_size
    feeds = {"ingest": InTurn, "prefetched": Prefetcher}
    ways = (*feeds, "copy")
    rates: dict[str, list[float]] = {way: [] for way in ways}
    windows: dict[str, list[Window]] = {way: [] for way in feeds}
    print(f"{actors} simulated actors start: rollouts of {shape.nbytes / 2**20:.1f} MiB", flush=True)
    with ray_session(ray, actors):
        fleet = simulated_fleet(config, shape, 1e9 * rate / actors / shape.nbytes)
        try:
            until_all_give(fleet, actors)
            intake = Intake(fleet)
            for turn, order in enumerate(pairs.in_turns(ways, number)):
                for way in order:
                    if way == "copy":
                        rates[way].append(copy_rate(seconds))
                        continue
                    feed = feeds[way](config, intake, device, lambda: 0)
                    try:  # what lay ready does not count
                        Window(feed, intake, device, 0.3 * seconds, learner_s)
                        windows[way].append(Window(feed, intake, device, seconds, learner_s))
                    finally:
                        feed.close()
                    window = windows[way][-1]
                    rates[way].append(1e-9 * per_batch * window.batches / window.seconds)
                told = ", ".join(f"{way} {rates[way][-1]:.2f}" for way in ways)
                print(f"pair {turn + 1} of {number}: {told} GB/s", flush=True)
        finally:
            fleet.close()
    shares = {
        way: {name: pairs.summary([w.shares[name] for w in seen]) for name in seen[0].shares}
        for way, seen in windows.items()
    }
    fractions = [a / b for a, b in zip(rates["ingest"], rates["copy"], strict=True)]
    gains = [a / b for a, b in zip(rates["prefetched"], rates["ingest"], strict=True)]
    return {
        "GB/s": {way: pairs.summary(rates[way]) for way in ways},
        "of_copy": pairs.summary(fractions),
        "prefetched_over_ingest": pairs.summary(gains),
        "shares_of_time": shares,
        "bound": bound(shares["ingest"], pairs.summary(rates["ingest"])["median"], rate, learner_s > 0),
        "actors": actors,
        "rollout": shape._asdict() | {"bytes": shape.nbytes},
        "batch_size": batch_size,
        "offered_GB/s": rate or None,
        "learner_s": learner_s,
        "device": str(device),
        "series": rates | {"of_copy": fractions, "prefetched_over_ingest": gains},
    }


def bound(shares: dict[str, dict[str, float]], reached: float, offered: float, learns: bool) -> str:
    if offered and reached >= 0.95 * offered:
        return f"the actors, which offer {offered:g} GB/s (--rate)"
    used, waiting = shares[JOINER]["median"], shares["waiting"]["median"]
    if waiting > IDLE and used < 1 - IDLE:
        return "what puts rollouts into the object store: the actors' cores, and their copies of memory"
    if learns and used < 1 - IDLE:
        return "the learner, while whose thread is at work no batch is made (--learner-ms)"
    return "the learner's thread, which takes and joins rollouts: copies of memory"


def report(result: dict[str, Any]) -> str:
    series = result["series"]
    lines = [
        f"data path        {pairs.told(series['ingest'], 2)} GB/s to {result['device']}",
        f"prefetched       {pairs.told(series['prefetched'], 2)} GB/s",
        f"                 {pairs.told(series['prefetched_over_ingest'], 2)} times the former",
        f"copy, one thread {pairs.told(series['copy'], 2)} GB/s",
        f"                 {pairs.told(series['of_copy'], 2)} of it is the data path's rate",
    ]
    for way, measured in result["shares_of_time"].items():
        shares = ", ".join(f"{name} {share['median']:.0%}" for name, share in measured.items())
        lines.append(f"{way}, of the time: {shares}")
    return "\n".join([*lines, f"without prefetching bound by {result['bound']}"])


def main(arguments: list[str]) -> int:
    options = with_pairs(parser("ingest", __doc__), 2.0)
    options.add_argument("--actors", type=int, default=2)
    options.add_argument("--slots", type=int, default=16, help="env slots of an actor (16)")
    options.add_argument("--unroll-length", type=int, default=50, help="T (50)")
    options.add_argument("--observation", type=int, nargs="+", default=[84, 84, 1], help="shape, uint8")
    options.add_argument("--batch-size", type=int, default=32, help="B, streams of a batch (32)")
    options.add_argument("--learner-ms", type=float, default=0.0, help="that a batch keeps the learner (0)")
    options.add_argument("--rate", type=float, default=0.0, help="GB/s that are offered; 0: no limit (0)")
    options = asked(options, arguments)
    for name in ("actors", "slots", "unroll_length", "batch_size"):
        value = getattr(options, name)
        require(value >= 1, f"--{name.replace('_', '-')}", value, "needs at least 1")
    for name in ("rate", "learner_ms"):
        require(
            getattr(options, name) >= 0,
            f"--{name.replace('_', '-')}",
            getattr(options, name),
            "cannot be negative",
        )
    shape = Shape(options.unroll_length, options.slots, tuple(options.observation))
    result = measure(
        options.actors,
        shape,
        options.batch_size,
        options.rate,
        1e-3 * options.learner_ms,
        options.pairs,
        options.seconds,
    )
    print(report(result))
    save(options.json, result)
    return 0
