"""The whole system against the ceiling of its acting and learning, in one run on one machine.

    launch.py bench system [PRESET] [--pairs N] [--seconds S] [--runtime inline] [--prefetch on|off]
                           [--json FILE]

The real system (`train`, all parts) is started once and watched in windows. So is the ceiling: the same
acting and learning, with the same processes and threads, kept at the same pace by nothing but a count
(benchmarks/system/coupled.py). Windows of the two take turns, S C C S S C C S; while one is measured the
other stands still. The ratio of each pair counts.

Before, env, inference and learner are measured alone for orientation: agent steps a second if the machine did
nothing else, on the better number of threads.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from contextlib import ExitStack
from typing import Any

import torch

from actors.policy import Policy
from actors.policy.precision import told
from benchmarks import pairs
from benchmarks.on_gpu.busy import KernelClock
from benchmarks.system import verdict
from benchmarks.system.coupled import Coupled, endless, real_batch
from benchmarks.system.parts import make_parts
from benchmarks.system.watched import Window, run_watched, wait_until_still
from benchmarks.verb import asked, parser, save, with_pairs
from configs.layout import described, laid_out, machine_named
from configs.machine import available_cores, available_memory
from configs.presets import preset
from configs.schema import Config
from envs.make import check_env, env_spec
from learner.learner import Learner, resolve_device, seed_everything

DEFAULT_PRESET = "atari_breakout_rtrl_bench"
PART_S = 1.5
WINDOW_S = 5.0


class Measurement:
    """Pairs of a window of the system and one of its ceiling."""

    def __init__(self, config: Config, number: int, seconds: float) -> None:
        self._began = time.monotonic()
        self._number, self._seconds = number, seconds
        self.config, self.device = config, resolve_device(config.device)
        self.windows: list[Window] = []
        self.alone: dict[str, float] = {}
        self.ceilings: list[float] = []
        self.gpu_busy: float | None = None
        self._clock = KernelClock() if self.device.type == "cuda" else None
        self._clock_runs = False

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:4.0f} s  {text}", flush=True)

    def run(self) -> None:
        self.say(told(self.config.compute, self.device))
        seed_everything(self.config.seed)
        with ExitStack() as stack:
            learner = Learner(Policy(env_spec(self.config.env), self.config.policy), self.config, self.device)
            batch = real_batch(self.config, self.device)
            self._alone(endless(learner, batch))
            inline = self.config.runtime == "inline"
            self.say("the actors of the ceiling start" if not inline else "the ceiling is this process's")
            self._coupled = Coupled(self.config, learner, batch, stack)
            self._coupled.rest()
            actors = "" if inline else f", {self.config.num_actors} actors in Ray"
            self.say(f"the whole system starts{actors}; then windows of it and of its ceiling in turn")
            self._system_threads()
            run_watched(self.config, self._seconds, self._after)

    def _alone(self, update: Any) -> None:
        self.say(f"{self.config.preset}: each part alone, on one thread a core and on one for all")
        with ExitStack() as stack:
            for name, candidates in make_parts(self.config, update, self.device.type == "cuda", stack):
                rates = {part.rate(PART_S): part.threads for part in candidates}
                self.alone[name] = best = max(rates)
                self.say(f"  {name}: {best:,.0f} agent steps/s with {rates[best]} threads")

    def _system_threads(self) -> None:
        torch.set_num_threads(self.config.learner_threads or available_cores())

    def _after(self, window: Window) -> bool | None:
        """After a window of the system: whether it stood still; None at the end (`Watched`)."""
        if self._clock is not None and self._clock_runs:
            self.gpu_busy = self._clock.stop()
            return None
        self.windows.append(window)
        if stands := len(self.ceilings) < len(self.windows):
            wait_until_still()
            for _ in range(min(2, self._number - len(self.ceilings))):
                self.ceilings.append(self._coupled.window(self._seconds))
            self._coupled.rest()
        for i in range(len(self.windows) - 1, min(len(self.windows), len(self.ceilings))):
            system = self.windows[i].steps / self.windows[i].seconds
            self.say(
                f"pair {i + 1} of {self._number}: system {system:,.0f}, ceiling {self.ceilings[i]:,.0f} "
                f"agent steps/s, ratio {system / self.ceilings[i]:.2f}"
            )
        if len(self.windows) < self._number:
            return stands
        if self._clock is None:
            return None
        self.say("one window more, in which the GPU's kernels are looked at")
        self._clock.start()
        self._clock_runs = True
        return False


def measure(config: Config, number: int, seconds: float = WINDOW_S) -> dict[str, Any]:
    """Everything that `--json` writes. Raises EnvError or ConfigError for a config that cannot run."""
    check_env(config.env)
    load = os.getloadavg()[0]
    measurement = Measurement(config, number, seconds)
    measurement.run()
    windows, cores = measurement.windows, available_cores()
    on_gpu = measurement.device.type == "cuda"
    system = [window.steps / window.seconds for window in windows]
    ceilings = measurement.ceilings
    series = {
        "system": system,
        "ceiling": ceilings,
        "ratio": [one / top for one, top in zip(system, ceilings, strict=True)],
    }
    use = verdict.Use.of(windows)
    processes: dict[str, float] = {}
    for window in windows:
        for name, spent in window.process_s.items():
            processes[name] = processes.get(name, 0.0) + spent
    return {
        **{name: pairs.summary(values) for name, values in series.items()},
        "bottleneck": verdict.bottleneck(use, cores, config.runtime == "inline"),
        "change": verdict.advice(config, use, measurement.alone, cores, on_gpu),
        "alone": measurement.alone,
        "learner_waited": use.waited,
        "gpu_busy": measurement.gpu_busy,
        "cpu_seconds": {group: sum(w.cpu_s.get(group, 0.0) for w in windows) for group in use.cores},
        "cpu_seconds_by_process": dict(sorted(processes.items(), key=lambda item: -item[1])),
        "cores_used": use.cores,
        "cpu_microseconds_per_step": use.us_per_step,
        "load_average_before": load,
        "series": series,
        "config": json.loads(config.to_json()),
    }


def report(result: dict[str, Any]) -> str:
    """The same for people."""
    used, series = result["cores_used"], result["series"]
    lines = [f"{name + ' alone':18}{rate:>10,.0f} agent steps/s" for name, rate in result["alone"].items()]
    for label, name in (("ceiling", "ceiling"), ("whole system", "system")):
        lines.append(f"{label:18}{pairs.told(series[name]):>10} agent steps/s")
    cpu = ", ".join(f"{group} {seconds:.1f}" for group, seconds in result["cpu_seconds"].items())
    shares = ", ".join(f"{group} {cores:.2f}" for group, cores in used.items())
    busiest = list(result["cpu_seconds_by_process"].items())[:5]
    lines += [
        f"{'':18}{pairs.told(series['ratio'], 2)} of the ceiling",
        f"medians of {len(series['ratio'])} pairs, with {pairs.CONFIDENCE:.0%} bootstrap intervals",
        f"CPU seconds: {cpu}; that is, in cores of {available_cores()}: {shares}",
        f"of the run's processes most: {', '.join(f'{name} {spent:.1f}' for name, spent in busiest)}",
        f"the learner waited for rollouts {result['learner_waited']:.0%} of the time",
        f"bottleneck: {result['bottleneck']}. To go faster: {result['change']}",
    ]
    if result["gpu_busy"] is not None:
        lines.insert(-1, f"the learner's kernels kept its GPU busy {result['gpu_busy']:.0%} of the time")
    if used["others"] > 0.2:
        lines.append("Other programs were at work: all this is of a machine that was shared")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    options = with_pairs(parser("system", __doc__), WINDOW_S)
    options.add_argument("preset", nargs="?", default=DEFAULT_PRESET)
    options.add_argument("--runtime", choices=["ray", "inline"], default="ray")
    options.add_argument("--prefetch", choices=["auto", "on", "off"], default="auto")
    options = asked(options, arguments)
    config = dataclasses.replace(
        preset(options.preset),
        runtime=options.runtime,
        prefetch=options.prefetch,
        total_steps=10**12,
        time_limit_s=None,
    )
    config = dataclasses.replace(config, eval=dataclasses.replace(config.eval, interval_steps=0))
    cores, gpus = available_cores(), torch.cuda.device_count()
    learner_on_gpu = resolve_device(config.device).type == "cuda"
    laid = laid_out(config, max(1, cores - learner_on_gpu), available_memory() / 2**20, gpus)
    print(described(config, laid, machine_named(cores, gpus)), flush=True)
    result = measure(laid, options.pairs, options.seconds)
    print(report(result))
    save(options.json, result)
    return 0
