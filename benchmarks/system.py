"""`launch.py bench`: the whole system against the ceiling of its own parts, in one run on one machine.

The real system (`train`, all parts) is started once and watched in windows; between them it stands still,
and each part is measured alone, in agent steps a second: env, inference, learner (benchmarks/parts.py). So
parts and system alternate, and a machine that is slow for a while is slow for all of them. Reported are
medians and their spread.

The ceiling is what the same cores could do if they did nothing else: on a CPU all three parts share them, so
1 / (1/env + 1/inference + 1/learner); with a GPU the learner runs beside the other two, so the smaller
of learner and 1 / (1/env + 1/inference).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from contextlib import ExitStack
from typing import Any

import torch

from benchmarks import verdict
from benchmarks.machine import header
from benchmarks.parts import Part, make_parts
from benchmarks.watched import Window, run_watched
from configs.layout import laid_out
from configs.machine import available_cores
from configs.paths import new_file_argument
from configs.presets import preset
from configs.schema import Config, ConfigError
from envs.make import check_env
from learner.learner import resolve_device, seed_everything

DEFAULT_PRESET = "atari_breakout_rtrl_bench"
PART_S = 1.5
WINDOW_S = 5.0
MIN_ROUNDS = 3
"""Fewer tell no spread."""


class Measurement:
    """One round is a window of the system, then each part once."""

    def __init__(self, config: Config, seconds: float) -> None:
        self._began = time.monotonic()
        self._seconds = seconds
        self.config = config
        self.windows: list[Window] = []
        self.rates: dict[str, list[float]] = {"env": [], "inference": [], "learner": [], "system": []}
        self._parts: dict[str, Part] = {}

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:4.0f} s  {text}", flush=True)

    def run(self) -> None:
        seed_everything(self.config.seed)
        device = resolve_device(self.config.device)
        with ExitStack() as stack:
            self.say(f"{self.config.preset}: each part alone, on one thread a core and on one for all")
            for name, candidates in make_parts(self.config, device, stack):
                rates = {part.rate(PART_S): part for part in candidates}
                self._parts[name] = rates[max(rates)]
                self.say(
                    f"  {name}: {max(rates):,.0f} agent steps/s with {self._parts[name].threads} threads"
                )
            actors = "" if self.config.runtime == "inline" else f", {self.config.num_actors} actors in Ray"
            self.say(f"the whole system starts{actors}; then windows of it and of its parts in turn")
            self._system_threads()
            run_watched(self.config, WINDOW_S, self._after)

    def _system_threads(self) -> None:
        torch.set_num_threads(self.config.learner_threads or available_cores())

    def _after(self, window: Window) -> bool:
        self.windows.append(window)
        self.rates["system"].append(window.steps / window.seconds)
        for name, part in self._parts.items():
            self.rates[name].append(part.rate(PART_S))
        self._system_threads()
        last = {name: values[-1] for name, values in self.rates.items()}
        self.say(
            f"round {len(self.windows)}: system {last['system']:,.0f}, env {last['env']:,.0f}, "
            f"inference {last['inference']:,.0f}, learner {last['learner']:,.0f} agent steps/s"
        )
        spent = time.monotonic() - self._began
        return len(self.windows) < MIN_ROUNDS or spent < self._seconds


def measure(config: Config, seconds: float) -> dict[str, Any]:
    """Everything that `bench --json` writes. Raises EnvError or ConfigError for a config that cannot run."""
    check_env(config.env)
    verdict.interval([0.0])  # without scipy, now and not at the end
    measurement = Measurement(config, seconds)
    measurement.run()
    rates, cores = measurement.rates, available_cores()
    on_gpu = resolve_device(config.device).type == "cuda"
    rounds = [dict(zip(rates, values, strict=True)) for values in zip(*rates.values(), strict=True)]
    ceilings = [verdict.ceiling(one, on_gpu) for one in rounds]
    series = {name: rates[name] for name in rates} | {
        "ceiling": ceilings,
        "ratio": [one["system"] / top for one, top in zip(rounds, ceilings, strict=True)],
    }
    middle = {name: verdict.median(values) for name, values in series.items()}
    use = verdict.Use.of(measurement.windows)
    return {
        "ceiling_sps": middle["ceiling"],
        "system_sps": middle["system"],
        "ratio": middle["ratio"],
        "bottleneck": verdict.bottleneck(use, cores, config.runtime == "inline"),
        "change": verdict.advice(config, use, middle, cores, on_gpu),
        "env_sps": middle["env"],
        "inference_sps": middle["inference"],
        "learner_sps": middle["learner"],
        "intervals": {name: verdict.interval(values) for name, values in series.items()},
        "learner_waited": use.waited,
        "cpu_seconds": {group: sum(w.cpu_s[group] for w in measurement.windows) for group in use.cores},
        "cores_used": use.cores,
        "cpu_microseconds_per_step": use.us_per_step,
        "all_rates": series,
        "config": json.loads(config.to_json()),
        "machine": header(),
    }


def report(result: dict[str, Any]) -> str:
    """The same for people."""
    intervals, used = result["intervals"], result["cores_used"]
    lines = []
    for label, name in (
        ("env alone", "env"),
        ("inference alone", "inference"),
        ("learner alone", "learner"),
        ("ceiling", "ceiling"),
        ("whole system", "system"),
    ):
        low, high = intervals[name]
        lines.append(f"{label:18}{result[name + '_sps']:>10,.0f} agent steps/s  [{low:,.0f}, {high:,.0f}]")
    low, high = intervals["ratio"]
    rounds = len(result["all_rates"]["system"])
    lines[-1] += f"\n{'':18}{result['ratio']:>10.2f} of the ceiling [{low:.2f}, {high:.2f}]"
    cpu = ", ".join(f"{group} {seconds:.1f}" for group, seconds in result["cpu_seconds"].items())
    shares = ", ".join(f"{group} {cores:.2f}" for group, cores in used.items())
    lines += [
        f"medians of {rounds} rounds, with {verdict.CONFIDENCE:.0%} bootstrap intervals",
        f"CPU seconds: {cpu}; that is, in cores of {available_cores()}: {shares}",
        f"the learner waited for rollouts {result['learner_waited']:.0%} of the time",
        f"bottleneck: {result['bottleneck']}. To go faster: {result['change']}",
    ]
    if used["others"] > 0.2:
        lines.append("Other programs were at work: all this is of a machine that was shared")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="launch.py bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("preset", nargs="?", default=DEFAULT_PRESET)
    parser.add_argument(
        "--seconds", type=float, default=120.0, help=f"for all of it, but at least {MIN_ROUNDS} rounds"
    )
    parser.add_argument("--runtime", choices=["ray", "inline"], default="ray")
    parser.add_argument("--json", type=new_file_argument, help="also write the result to this file")
    options = parser.parse_args(arguments)
    if options.seconds <= 0:
        raise ConfigError(f"--seconds {options.seconds:g}: must be positive")
    config = dataclasses.replace(preset(options.preset), runtime=options.runtime, total_steps=10**12)
    config = laid_out(config, available_cores())
    result = measure(dataclasses.replace(config, time_limit_s=None), options.seconds)
    print(report(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0
