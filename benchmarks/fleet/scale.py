"""What it costs the learner's thread to take a rollout, by the number of actors that offer some.

    launch.py bench scale [--actors 1 4 16 64] [--pairs N] [--seconds S] [--kib SIZE] [--json FILE]

The fleets are real ones, through Ray, all in one session; their actors only hand out one and the same
rollout, of SIZE KiB, as fast as they are asked. They are measured in turns, up and down: CPU and wall
microseconds a rollout in `next_rollout` are the fleet's own, with Ray's. Where there are fewer cores than
actors, wall time is mostly waiting for them.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from actors.fleet.cluster import ray_session
from benchmarks import pairs
from benchmarks.fleet.simulated import Shape, config_of, simulated_fleet, until_all_give
from benchmarks.verb import asked, parser, save, with_pairs
from configs.error import require
from configs.schema import RayConfig

T = 20
FLAT = 1.25
"""So many times the cost of the smallest fleet at most, and the cost is called flat."""


def take(fleet: Any, seconds: float) -> dict[str, float]:
    """Microseconds a rollout of this thread. What has lain ready is taken before."""
    fleet.next_rollout(1.0)
    taken, wall, cpu = 0, time.perf_counter(), time.thread_time()
    while time.perf_counter() - wall < seconds or not taken:
        taken += fleet.next_rollout(1.0) is not None
    return {
        "cpu_us": 1e6 * (time.thread_time() - cpu) / taken,
        "wall_us": 1e6 * (time.perf_counter() - wall) / taken,
    }


def measure(sizes: list[int], number: int, seconds: float, kib: int) -> dict[str, Any]:
    shape = Shape(T, 1, (kib * 1024 // (T + 1),))
    found: dict[int, list[dict[str, float]]] = {actors: [] for actors in sizes}
    store = max(256, int(8 * sum(sizes) * shape.nbytes / 2**20))
    with ExitStack() as stack:
        stack.enter_context(ray_session(RayConfig(object_store_mib=store), sum(sizes)))
        fleets = {}
        for actors in sizes:
            print(f"{actors} simulated actors start", flush=True)
            fleets[actors] = fleet = simulated_fleet(config_of(actors, shape, 1), shape)
            stack.callback(fleet.close)
            until_all_give(fleet, actors)
        for turn, order in enumerate(pairs.in_turns(sizes, number)):
            for actors in order:
                found[actors].append(take(fleets[actors], seconds))
            costs = ", ".join(f"{actors}: {found[actors][-1]['cpu_us']:,.0f}" for actors in sizes)
            print(f"round {turn + 1} of {number}, CPU us a rollout by actors: {costs}", flush=True)
    few, many = sizes[0], sizes[-1]
    growth = [b["cpu_us"] / a["cpu_us"] for a, b in zip(found[few], found[many], strict=True)]
    return {
        "kib": kib,
        "actors": {
            str(actors): {unit: pairs.summary([row[unit] for row in rows]) for unit in ("cpu_us", "wall_us")}
            for actors, rows in found.items()
        },
        "growth": pairs.summary(growth),
        "flat": pairs.summary(growth)["median"] <= FLAT,
        "rounds": {str(actors): rows for actors, rows in found.items()},
    }


def report(result: dict[str, Any]) -> str:
    lines = [f"{'actors':>8} {'CPU us a rollout':>24} {'wall us':>24}"]
    for actors, rows in result["rounds"].items():
        cpu, wall = (pairs.told([row[unit] for row in rows]) for unit in ("cpu_us", "wall_us"))
        lines.append(f"{actors:>8} {cpu:>24} {wall:>24}")
    growth, sizes = result["growth"], list(result["actors"])
    lines.append(
        f"from {sizes[0]} to {sizes[-1]} actors the learner's thread pays {growth['median']:.2f} times as "
        f"much a rollout [{growth['low']:.2f}, {growth['high']:.2f}]: {'' if result['flat'] else 'not '}flat"
    )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    options = with_pairs(parser("scale", __doc__), 1.0)
    options.add_argument("--actors", nargs="+", type=int, default=[1, 4, 16, 64])
    options.add_argument("--kib", type=int, default=64, help="of a rollout (64)")
    options = asked(options, arguments)
    require(min(options.actors) >= 1, "--actors", options.actors, "needs at least 1 in each fleet")
    require(options.kib >= 1, "--kib", options.kib, "needs at least 1")
    result = measure(sorted(set(options.actors)), options.pairs, options.seconds, options.kib)
    print(report(result))
    save(options.json, result)
    return 0
