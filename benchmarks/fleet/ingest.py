"""GB/s of rollouts through the data path of one learner, and what bounds it.

    launch.py bench ingest [--actors 2] [--slots 16] [--unroll-length 50] [--observation 84 84 1]
                           [--batch-size 32] [--rate GB/s] [--pairs N] [--seconds S] [--json FILE]

    simulated actors --> object store --> fleet --> Batcher: joined on the host --> the learner's device

Nothing is learned. Measurements take turns with a plain copy of memory by one thread, which each byte needs
once in an actor, into the object store, and once in the learner, out of it. Counted are the bytes of
observations in batches.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import torch

from actors.fleet.cluster import ray_session
from benchmarks import pairs
from benchmarks.fleet.simulated import Shape, config_of, simulated_fleet, store_mib, until_all_give
from benchmarks.verb import asked, parser, save, with_pairs
from configs.error import require
from learner.batcher import Batcher
from learner.learner import resolve_device

COPIED = 64 * 2**20
"""Bytes of a copy: more than caches hold."""
IDLE = 0.2
"""Of the time waiting for rollouts, and it is not the learner's thread that bounds."""


class Window:
    """A while of the data path, from the first batch that was asked for."""

    def __init__(self, fleet: Any, batcher: Batcher, device: torch.device, seconds: float) -> None:
        spent = {"waiting": 0.0, "joining": 0.0}
        batches, cpu, start = 0, time.thread_time(), time.perf_counter()
        while time.perf_counter() - start < seconds or not batches:
            begun = time.perf_counter()
            batch = batcher.next_batch()
            spent["joining"] += time.perf_counter() - begun
            if batch is not None:
                batches += 1
                continue
            begun = time.perf_counter()
            rollout = fleet.next_rollout(1.0, batcher.covered)
            spent["waiting"] += time.perf_counter() - begun
            if rollout is not None:
                batcher.add(rollout, 0)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds = time.perf_counter() - start
        self.batches = batches
        self.shares = {name: value / self.seconds for name, value in spent.items()}
        self.shares["CPU of the learner's thread"] = (time.thread_time() - cpu) / self.seconds


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
    actors: int, shape: Shape, batch_size: int, rate: float, number: int, seconds: float
) -> dict[str, Any]:
    """`rate`: GB/s that all actors offer together; 0: no limit."""
    config, device = config_of(actors, shape, batch_size), resolve_device("auto")
    ray = dataclasses.replace(config.ray, object_store_mib=store_mib(config, shape))
    config = dataclasses.replace(config, ray=ray)
    per_batch = shape.nbytes / shape.slots * batch_size
    ways = ("ingest", "copy")
    rates: dict[str, list[float]] = {way: [] for way in ways}
    windows: list[Window] = []
    print(f"{actors} simulated actors start: rollouts of {shape.nbytes / 2**20:.1f} MiB", flush=True)
    with ray_session(ray, actors):
        fleet = simulated_fleet(config, shape, 1e9 * rate / actors / shape.nbytes)
        try:
            until_all_give(fleet, actors)
            batcher = Batcher(config, device)
            for turn, order in enumerate(pairs.in_turns(ways, number)):
                for way in order:
                    if way == "copy":
                        rates[way].append(copy_rate(seconds))
                        continue
                    Window(fleet, batcher, device, 0.3 * seconds)  # what lay ready does not count
                    windows.append(Window(fleet, batcher, device, seconds))
                    rates[way].append(1e-9 * per_batch * windows[-1].batches / windows[-1].seconds)
                told = ", ".join(f"{way} {rates[way][-1]:.2f}" for way in ways)
                print(f"pair {turn + 1} of {number}: {told} GB/s", flush=True)
        finally:
            fleet.close()
    shares = {name: pairs.summary([w.shares[name] for w in windows]) for name in windows[0].shares}
    fractions = [a / b for a, b in zip(rates["ingest"], rates["copy"], strict=True)]
    return {
        "GB/s": {way: pairs.summary(rates[way]) for way in ways},
        "of_copy": pairs.summary(fractions),
        "shares_of_time": shares,
        "bound": bound(shares, pairs.summary(rates["ingest"])["median"], rate),
        "actors": actors,
        "rollout": shape._asdict() | {"bytes": shape.nbytes},
        "batch_size": batch_size,
        "offered_GB/s": rate or None,
        "device": str(device),
        "series": rates | {"of_copy": fractions},
    }


def bound(shares: dict[str, dict[str, float]], reached: float, offered: float) -> str:
    if offered and reached >= 0.95 * offered:
        return f"the actors, which offer {offered:g} GB/s (--rate)"
    used = shares["CPU of the learner's thread"]["median"]
    if shares["waiting"]["median"] > IDLE and used < 1 - IDLE:
        return "what puts rollouts into the object store: the actors' cores, and their copies of memory"
    return "the learner's thread, which takes and joins rollouts: copies of memory"


def report(result: dict[str, Any]) -> str:
    shares = ", ".join(f"{name} {share['median']:.0%}" for name, share in result["shares_of_time"].items())
    series = result["series"]
    return "\n".join(
        [
            f"data path        {pairs.told(series['ingest'], 2)} GB/s to {result['device']}",
            f"copy, one thread {pairs.told(series['copy'], 2)} GB/s",
            f"                 {pairs.told(series['of_copy'], 2)} of it",
            f"the learner's thread, of the time: {shares}",
            f"bound by {result['bound']}",
        ]
    )


def main(arguments: list[str]) -> int:
    options = with_pairs(parser("ingest", __doc__), 2.0)
    options.add_argument("--actors", type=int, default=2)
    options.add_argument("--slots", type=int, default=16, help="env slots of an actor (16)")
    options.add_argument("--unroll-length", type=int, default=50, help="T (50)")
    options.add_argument("--observation", type=int, nargs="+", default=[84, 84, 1], help="shape, uint8")
    options.add_argument("--batch-size", type=int, default=32, help="B, streams of a batch (32)")
    options.add_argument("--rate", type=float, default=0.0, help="GB/s that are offered; 0: no limit (0)")
    options = asked(options, arguments)
    for name in ("actors", "slots", "unroll_length", "batch_size"):
        value = getattr(options, name)
        require(value >= 1, f"--{name.replace('_', '-')}", value, "needs at least 1")
    require(options.rate >= 0, "--rate", options.rate, "cannot be negative")
    shape = Shape(options.unroll_length, options.slots, tuple(options.observation))
    result = measure(options.actors, shape, options.batch_size, options.rate, options.pairs, options.seconds)
    print(report(result))
    save(options.json, result)
    return 0
