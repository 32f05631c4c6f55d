"""What an agent step costs by layout: the same streams carried by few actors of many slots, or by many.

    launch.py bench acting [PRESET] [--layouts 16x1 4x4 2x8 1x16 1x16x2 1x16x1x2] [--pairs N] [--seconds S]

A layout is ACTORSxSLOTS, ACTORSxSLOTSxTHREADS or ACTORSxSLOTSxTHREADSxGROUPS. Its actors are processes that
collect rollouts (env and policy, as an actor does, but for Ray) all at once, and are counted for S seconds;
layouts take turns, forward and back. Told are CPU microseconds of an agent step, which another program's work
hardly changes, agent steps a second, and the memory that a process has for itself.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import NamedTuple

import psutil
import torch

from actors.collect import check_acting, make_collector
from actors.fleet.fleet import FleetError
from actors.policy import Policy
from benchmarks import pairs
from benchmarks.verb import asked, parser, save, with_pairs
from configs.error import require
from configs.presets import preset
from configs.schema import Config
from envs.make import check_env, env_spec
from learner.publish import LocalPublisher

PATIENCE_S = 600.0
UNROLL = 10
"""Short, so that a count ends soon after its time."""


def _act(config: Config, actor_id: int, seconds: float, ready: Barrier, line: Connection) -> None:
    torch.set_num_threads(config.env.threads)
    publisher = LocalPublisher()
    publisher.publish(Policy(env_spec(config.env), config.policy), 0)
    collector = make_collector(config, publisher.source, actor_id, incarnation=actor_id)
    collector.collect()
    ready.wait(PATIENCE_S)
    mine, start, steps = psutil.Process(), time.perf_counter(), 0
    before = sum(mine.cpu_times()[:2])
    while time.perf_counter() - start < seconds:
        steps += collector.collect().action.shape[1] * UNROLL
    wall, cpu = time.perf_counter() - start, sum(mine.cpu_times()[:2]) - before
    line.send((steps, wall, cpu, mine.memory_full_info().uss))
    collector.close()


class Acted(NamedTuple):
    """What a layout was seen to do."""

    cpu_us: float
    """CPU microseconds of an agent step."""
    sps: float
    """Agent steps a second of all actors."""
    mib: float
    """That an actor's process has for itself."""


class Layout(NamedTuple):
    actors: int
    slots: int
    threads: int = 1
    groups: int = 1

    @classmethod
    def of(cls, text: str) -> Layout:
        """Raises ConfigError for what is not ACTORSxSLOTS[xTHREADS[xGROUPS]]."""
        words = text.split("x")
        form = 2 <= len(words) <= 4 and all(word.isdecimal() and int(word) > 0 for word in words)
        require(form, "--layouts", text, "needs ACTORSxSLOTS, or ACTORSxSLOTSxTHREADS[xGROUPS]")
        return cls(*map(int, words))

    def __str__(self) -> str:
        return "x".join(map(str, self[: 4 if self.groups > 1 else 3 if self.threads > 1 else 2]))

    def applied(self, base: Config) -> Config:
        env = dataclasses.replace(base.env, num_envs=self.slots, num_threads=self.threads)
        return dataclasses.replace(
            base,
            env=env,
            num_actors=self.actors,
            num_streams=self.actors * self.slots,
            actor_groups=self.groups,
            batch_size=1,
            unroll_length=UNROLL,
        )


def measure(base: Config, layout: Layout, seconds: float) -> Acted:
    """Raises FleetError where an actor ends before it has told."""
    config = layout.applied(base)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(layout.actors)
    running, lines = [], []
    for actor_id in range(layout.actors):
        here, there = context.Pipe(duplex=False)
        running.append(context.Process(target=_act, args=(config, actor_id, seconds, ready, there)))
        running[-1].start()
        there.close()
        lines.append(here)
    try:
        told = [line.recv() for line in lines]
    except EOFError as error:
        for process in running:
            process.kill()
        raise FleetError(f"an actor of the layout {layout} has ended; see above") from error
    for process in running:
        process.join()
    steps = sum(one[0] for one in told)
    return Acted(
        1e6 * sum(one[2] for one in told) / steps,
        sum(one[0] / one[1] for one in told),
        statistics.median(one[3] for one in told) / 2**20,
    )


def main(arguments: list[str]) -> int:
    options = with_pairs(parser("acting", __doc__), 4.0)
    options.add_argument("preset", nargs="?", default="atari_breakout_rtrl_bench")
    options.add_argument("--layouts", nargs="+", default=["16x1", "4x4", "2x8", "1x16", "1x16x2", "1x16x1x2"])
    options = asked(options, arguments)
    base, layouts = preset(options.preset), [Layout.of(text) for text in options.layouts]
    check_env(base.env)
    for layout in layouts:
        check_acting(layout.applied(base))
    found: dict[str, list[Acted]] = {str(layout): [] for layout in layouts}
    for turn, order in enumerate(pairs.in_turns(layouts, options.pairs)):
        for layout in order:
            acted = measure(base, layout, options.seconds)
            found[str(layout)].append(acted)
            print(f"round {turn + 1} of {options.pairs}, {layout}: {acted.sps:,.0f} steps/s", flush=True)
    print(f"{'layout':>12} {'CPU us a step':>26} {'agent steps/s':>26} {'MiB':>6}")
    for name, rows in found.items():
        cpu, rate = (pairs.told([getattr(row, unit) for row in rows]) for unit in ("cpu_us", "sps"))
        memory = pairs.summary([row.mib for row in rows])["median"]
        print(f"{name:>12} {cpu:>26} {rate:>26} {memory:>6.0f}")
    result = {
        name: {unit: pairs.summary([getattr(row, unit) for row in rows]) for unit in Acted._fields}
        for name, rows in found.items()
    }
    save(options.json, {"preset": base.preset, "layouts": result})
    return 0
