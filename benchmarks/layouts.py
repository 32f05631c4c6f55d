"""What an agent step costs by layout: the same streams carried by few actors of many slots, or by many.

    python -m benchmarks.layouts [PRESET] [--layouts 16x1 4x4 2x8 1x16 1x16x2] [--rounds R] [--seconds S]

A layout is ACTORSxSLOTS, or ACTORSxSLOTSxTHREADS. Its actors are processes that collect rollouts (env and
policy, as an actor does, but for Ray) all at once, and are counted for S seconds; layouts take turns, so that
a machine that is slow for a while is slow for all. Told are CPU microseconds of an agent step, which another
program's work hardly changes, agent steps a second, and the memory that a process has for itself; medians
over the rounds, with the least and the most.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import statistics
import time
from multiprocessing.synchronize import Barrier
from typing import Any

import psutil
import torch

from actors.collect import make_collector
from actors.policy import Policy
from configs.presets import preset
from configs.schema import Config
from envs.make import env_spec
from learner.publish import LocalPublisher

UNROLL = 10
"""Short, so that a count ends soon after its time."""


def _act(config: Config, actor_id: int, seconds: float, ready: Barrier, results: Any) -> None:
    torch.set_num_threads(config.env.num_threads)
    publisher = LocalPublisher()
    publisher.publish(Policy(env_spec(config.env), config.policy), 0)
    collector = make_collector(config, publisher.source, actor_id, incarnation=actor_id)
    collector.collect()
    ready.wait()
    mine, start, steps = psutil.Process(), time.perf_counter(), 0
    before = sum(mine.cpu_times()[:2])
    while time.perf_counter() - start < seconds:
        steps += collector.collect().action.shape[1] * UNROLL
    wall, cpu = time.perf_counter() - start, sum(mine.cpu_times()[:2]) - before
    results.put((steps, wall, cpu, mine.memory_full_info().uss))
    collector.close()


def measure(base: Config, layout: str, seconds: float) -> tuple[float, float, float]:
    """CPU us of an agent step, agent steps a second, MiB that an actor's process has for itself."""
    actors, slots, *threads = (int(number) for number in layout.split("x"))
    env = dataclasses.replace(base.env, num_envs=slots, num_threads=threads[0] if threads else 1)
    config = dataclasses.replace(
        base, env=env, num_actors=actors, num_streams=actors * slots, batch_size=1, unroll_length=UNROLL
    )
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(actors), context.Queue()
    running = [
        context.Process(target=_act, args=(config, actor_id, seconds, ready, results))
        for actor_id in range(actors)
    ]
    for process in running:
        process.start()
    told = [results.get() for _ in running]
    for process in running:
        process.join()
    steps = sum(one[0] for one in told)
    rate = sum(one[0] / one[1] for one in told)
    return 1e6 * sum(one[2] for one in told) / steps, rate, statistics.median(one[3] for one in told) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("preset", nargs="?", default="atari_breakout_rtrl_bench")
    parser.add_argument("--layouts", nargs="+", default=["16x1", "4x4", "2x8", "1x16", "1x16x2"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    base = preset(options.preset)
    found: dict[str, list[tuple[float, float, float]]] = {layout: [] for layout in options.layouts}
    for turn in range(options.rounds):  # A, B, C, then C, B, A
        for layout in options.layouts[:: 1 if turn % 2 == 0 else -1]:
            found[layout].append(measure(base, layout, options.seconds))
            print(layout, *(f"{value:,.0f}" for value in found[layout][-1]), flush=True)
    print(f"{'layout':>10} {'CPU us a step':>24} {'steps/s':>24} {'MiB':>6}")
    for layout, rows in found.items():
        columns = [sorted(column) for column in zip(*rows, strict=True)]
        cpu, rate = (
            f"{statistics.median(column):,.0f} [{column[0]:,.0f}, {column[-1]:,.0f}]"
            for column in columns[:2]
        )
        print(f"{layout:>10} {cpu:>24} {rate:>24} {statistics.median(columns[2]):>6.0f}")


if __name__ == "__main__":
    main()
