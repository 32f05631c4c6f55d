"""`launch.py bench`: the whole system against the ceiling of its own parts, in one run on one machine.

Each part is measured alone, in agent steps a second, once with a thread on every core and once with one
thread, whose rate is multiplied by the cores; the better of the two counts:

    env        the actors' vector env, random actions
    inference  `LocalInference.step` on E slots
    learner    `Learner.update` on a batch that is at hand

The ceiling is what the same cores could do if they did nothing else: on a CPU all three share them, so
1 / (1/env + 1/inference + 1/learner); with a GPU the learner runs beside the other two, so the smaller
of learner and 1 / (1/env + 1/inference). Then the real system runs (`train`, all parts) and is compared.
Parts and system are measured alternately, and medians are reported: on a shared machine that is fairer.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from actors.collect import make_collector
from actors.fleet.cluster import ray_session
from actors.fleet.fleet import make_fleet
from actors.inference import LocalInference
from actors.policy import Policy
from benchmarks.machine import header
from configs.machine import available_cores
from configs.presets import preset
from configs.schema import Config
from envs.make import check_env, env_spec, make_vec
from learner.batcher import Batcher
from learner.learner import Learner, resolve_device, seed_everything
from learner.loop import StopFlag, TrainLoop
from learner.publish import LocalPublisher, make_publisher

DEFAULT_PRESET = "atari_breakout_rtrl_bench"
CORES = available_cores()
WARM_UP_S = 10.0
"""Of the whole system: workers start, kernels are chosen, queues fill."""


def env_rate(config: Config, seconds: float) -> float:
    native = config.env.id.startswith("ALE/")
    threads = torch.get_num_threads()
    env = make_vec(dataclasses.replace(config.env, num_threads=threads) if native else config.env)
    env.reset(seed=1)
    rng = np.random.default_rng(1)
    rate = _rate(
        lambda: env.step(rng.integers(env.spec.num_actions, size=env.num_envs)), env.num_envs, seconds
    )
    env.close()
    return rate


def inference_rate(config: Config, seconds: float) -> float:
    env = make_vec(config.env)
    inference = LocalInference(Policy(env.spec, config.policy), None, seed=1)
    slots = env.num_envs
    observation, reset = env.reset(seed=1), np.zeros(slots, np.bool_)
    reward, action = np.zeros(slots, np.float32), np.zeros(slots, np.int64)
    state = inference.initial_state(slots)
    rate = _rate(lambda: inference.step(observation, reward, reset, state, action), slots, seconds)
    env.close()
    return rate


def learner_rate(config: Config, seconds: float) -> float:
    """Updates on one real batch, again and again (its streams break each time, which costs a little more)."""
    device = resolve_device(config.device)
    publisher = LocalPublisher()
    spec = env_spec(config.env)
    learner = Learner(Policy(spec, config.policy), config, device)
    publisher.publish(learner.policy, 0)
    batcher = Batcher(config, device)
    for actor_id in range(config.batch_size // config.env.num_envs):
        collector = make_collector(config, publisher.source, actor_id, incarnation=actor_id)
        batcher.add(collector.collect(), 0)
        collector.close()
    batch = batcher.next_batch()
    assert batch is not None
    return _rate(lambda: learner.update(batch), config.steps_per_update, seconds)


def _rate(call: Callable[[], object], steps: int, seconds: float) -> float:
    """Steps a second; the first tenth of the time warms up and does not count."""
    until = time.perf_counter() + 0.1 * seconds
    while time.perf_counter() < until:
        call()
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        call()
        calls += 1
    return steps * calls / (time.perf_counter() - start)


class _SteadyState:
    """A sink that notes when the learner was where, to leave out the warm-up."""

    errors = 0

    def __init__(self, stop: StopFlag, seconds: float) -> None:
        self._stop, self._seconds = stop, seconds
        self._began = time.monotonic()
        self._first: tuple[float, int] | None = None
        self.rate = 0.0

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None:
        now = time.monotonic()
        if self._first is None:
            if now - self._began >= WARM_UP_S:
                self._first = (now, global_step)
        elif now - self._first[0] >= self._seconds:
            self.rate = (global_step - self._first[1]) / (now - self._first[0])
            self._stop.reason = "measured"

    def close(self, exit_code: int = 0) -> None: ...


def system_rate(config: Config, seconds: float) -> float:
    """The training loop with its actors, as `train` runs it, without W&B and files of metrics."""
    config = dataclasses.replace(config, log_interval_s=0.2)
    device, spec, stop = resolve_device(config.device), env_spec(config.env), StopFlag()
    sink = _SteadyState(stop, seconds)
    learner = Learner(Policy(spec, config.policy), config, device)
    with ExitStack() as stack:
        if config.runtime == "ray":
            stack.enter_context(ray_session(config.ray, config.num_actors))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        publisher = make_publisher(config.runtime)
        stack.callback(publisher.close)
        publisher.publish(learner.policy, 0)
        fleet = make_fleet(config, publisher.source)
        stack.callback(fleet.close)
        options = {"frames_per_step": spec.frames_per_step, "stop": stop}
        TrainLoop(config, learner, fleet, publisher, sink, Path(folder), **options).run()
    return sink.rate


def _on_all_cores(
    part: Callable[[Config, float], float], config: Config, seconds: float, threads: int
) -> float:
    torch.set_num_threads(threads)
    gpu_learner = part is learner_rate and resolve_device(config.device).type == "cuda"
    return part(config, seconds) * (1 if gpu_learner else CORES / threads)


def measure(config: Config, seconds: float, repeats: int) -> dict[str, object]:
    """Everything that `bench --json` writes. Raises EnvError or ConfigError for a config that cannot run."""
    check_env(config.env)
    parts = {"env": env_rate, "inference": inference_rate, "learner": learner_rate}
    rates: dict[str, list[float]] = {name: [] for name in (*parts, "system")}
    for _ in range(repeats):
        seed_everything(config.seed)
        for name, part in parts.items():
            rates[name].append(max(_on_all_cores(part, config, seconds, threads) for threads in {1, CORES}))
        torch.set_num_threads(config.learner_threads or CORES)
        rates["system"].append(system_rate(config, 2 * seconds))
    median = {name: statistics.median(values) for name, values in rates.items()}
    acting = 1 / (1 / median["env"] + 1 / median["inference"])
    on_gpu = resolve_device(config.device).type == "cuda"
    ceiling = min(acting, median["learner"]) if on_gpu else 1 / (1 / acting + 1 / median["learner"])
    cost = {name: 1e6 / median[name] for name in parts}
    cost["everything else"] = max(0.0, 1e6 / median["system"] - 1e6 / ceiling)
    return {
        "ceiling_sps": ceiling,
        "system_sps": median["system"],
        "ratio": median["system"] / ceiling,
        "bottleneck": max(cost, key=lambda name: cost[name]),
        "env_sps": median["env"],
        "inference_sps": median["inference"],
        "learner_sps": median["learner"],
        "microseconds_per_step": cost,
        "all_rates": rates,
        "config": json.loads(config.to_json()),
        "machine": header(),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="launch.py bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("preset", nargs="?", default=DEFAULT_PRESET)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each part; twice that for the system")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runtime", choices=["ray", "inline"], default="ray")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args(arguments)
    config = dataclasses.replace(preset(options.preset), runtime=options.runtime, total_steps=10**12)
    result = measure(dataclasses.replace(config, time_limit_s=None), options.seconds, options.repeats)
    for name in ("env", "inference", "learner"):
        print(f"{name + ' alone':18}{result[name + '_sps']:>10,.0f} agent steps/s")
    print(f"{'ceiling':18}{result['ceiling_sps']:>10,.0f}")
    print(f"{'whole system':18}{result['system_sps']:>10,.0f}  = {result['ratio']:.2f} of the ceiling")
    print(f"bottleneck: {result['bottleneck']}")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0
