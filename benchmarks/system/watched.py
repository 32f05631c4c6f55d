"""A training run that is looked at in windows, and that stands still in between.

The loop's learner is a `Watched` one, which opens and closes windows where an update begins. Between two
windows it keeps the loop waiting: no batch is taken, the actors stop by themselves (back-pressure), and
something else can be measured. So one start serves many repeats.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from actors.fleet.cluster import ray_session
from actors.fleet.fleet import make_fleet
from actors.policy import Policy
from configs.schema import Config
from envs.make import env_spec
from learner.batcher import Batch
from learner.learner import Learner, resolve_device
from learner.loop import StopFlag, TrainLoop
from learner.publish import make_publisher

SETTLE_S = 1.5
"""After a stand-still: the rollouts that were ready are used up, and the caches are warm."""


LOOK_S = 0.3
STILL = 0.1
"""Of a core in use, by all actors together, and they are said to stand still."""


@dataclass(frozen=True, slots=True)
class Window:
    """What one look at the running system saw."""

    seconds: float
    steps: int
    """Agent steps that the learner learned from."""
    waited_s: float
    """Of `seconds`: the learner had nothing to learn from; inline, the actors were at work."""
    cpu_s: dict[str, float]
    """CPU seconds by group of processes: `learner` (this one), `actors` (with their engines), `Ray`, and
    `others`, which are not of this run."""
    process_s: dict[str, float]
    """The same of this run by process, named by what it is and its number."""


class Watched(Learner):
    """A learner whose updates are looked at, in windows of `seconds`, from `watch` on."""

    def watch(
        self,
        loop: TrainLoop,
        stop: StopFlag,
        seconds: float,
        between: Callable[[Window], bool | None],
    ) -> None:
        """`between` is called after each window, while the loop waits. It says whether the run stood still
        meanwhile, and settles again before the next window; None ends it."""
        self._loop, self._stop = loop, stop
        self._seconds, self._between = seconds, between
        config = self.config
        # All rollouts that may have lain ready, and the batch that may have been made of such.
        self._backlog = config.unroll_length * (
            config.num_streams * config.ray.rollouts_in_flight + config.batch_size
        )
        self._settle()

    def launch(self, batch: Batch, steps: int | None = None) -> None:
        self._look()
        super().launch(batch, steps)

    def _settle(self) -> None:
        self._opened: _Opened | None = None
        self._since, self._step = time.perf_counter(), self.global_step

    def _look(self) -> None:
        now, opened = time.perf_counter(), self._opened
        if opened is None:
            if self.global_step - self._step >= self._backlog and now - self._since >= SETTLE_S:
                self._open()
            return
        if now - opened.at < self._seconds:
            return
        used, processes = spent(opened.cpu, cpu_seconds())
        used["others"] = max(0.0, machine_seconds() - opened.machine - sum(used.values()))
        waited = self._waited() - opened.waited
        stood_still = self._between(
            Window(now - opened.at, self.global_step - opened.step, waited, used, processes)
        )
        if stood_still is None:
            self._stop.reason = "measured"
        elif stood_still:
            self._settle()
        else:
            self._open()

    def _open(self) -> None:
        self._opened = _Opened(
            time.perf_counter(), self.global_step, self._waited(), cpu_seconds(), machine_seconds()
        )

    def _waited(self) -> float:
        return self._loop.spent.seconds.get("wait", 0.0)


class _Opened(NamedTuple):
    """How things stood when a window began."""

    at: float
    step: int
    waited: float
    cpu: dict[int, Spent]
    machine: float


class Spent(NamedTuple):
    group: str
    name: str
    seconds: float


def cpu_seconds() -> dict[int, Spent]:
    """Of this process and of all below it, by process id: CPU seconds so far."""
    root = psutil.Process()
    found = {root.pid: Spent("learner", f"learner {root.pid}", sum(root.cpu_times()[:2]))}
    for child in root.children(recursive=True):
        try:
            names = [one.name() for one in (child, *child.parents()) if one.pid != root.pid]
            actor = any(name.startswith("ray::RolloutW") for name in names)
            ray = any(name.startswith(("raylet", "gcs_server", "ray::")) for name in names)
            group = "Ray" if ray and not actor else "actors"
            name = f"{child.name()} {child.pid}"
            found[child.pid] = Spent(group, name, sum(child.cpu_times()[:2]))
        except psutil.NoSuchProcess:  # ended meanwhile
            continue
    return found


def spent(
    before: Mapping[int, Spent], after: Mapping[int, Spent]
) -> tuple[dict[str, float], dict[str, float]]:
    """CPU seconds by group, and by process, between two looks. Those of a process that ended in between are
    lost."""
    groups: dict[str, float] = {}
    processes: dict[str, float] = {}
    for pid, now in after.items():
        seconds = now.seconds - (before[pid].seconds if pid in before else 0.0)
        groups[now.group] = groups.get(now.group, 0.0) + seconds
        processes[now.name] = seconds
    return groups, processes


def wait_until_still(seconds: float = 60.0) -> None:
    """Returns once no process below this one works: the actors have done what they were asked for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = cpu_seconds()
        time.sleep(LOOK_S)
        groups, _ = spent(before, cpu_seconds())
        if groups.get("actors", 0.0) < STILL * LOOK_S:
            return
    print(f"the actors are not still after {seconds:g} s: what is measured next is disturbed", flush=True)


def machine_seconds() -> float:
    """CPU seconds so far of everything on this machine."""
    times: Any = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq + times.steal


class _Nowhere:
    """The sink of a run that leaves nothing."""

    errors = 0

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self, exit_code: int = 0) -> None: ...


def run_watched(config: Config, seconds: float, between: Callable[[Window], bool | None]) -> None:
    """Trains as `train` does, without W&B and files of metrics, until `between` has seen enough windows."""
    spec, stop = env_spec(config.env), StopFlag()
    learner = Watched(Policy(spec, config.policy), config, resolve_device(config.device))
    with ExitStack() as stack:
        if config.runtime == "ray":
            gpus = 0 if config.acting_device == "cpu" else torch.cuda.device_count()
            stack.enter_context(ray_session(config.ray, config.num_cpus, num_gpus=gpus))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        publisher = make_publisher(config.runtime)
        stack.callback(publisher.close)
        publisher.publish(learner.policy, 0)
        fleet = make_fleet(config, publisher.source)
        stack.callback(fleet.close)
        options = {"frames_per_step": spec.frames_per_step, "stop": stop}
        loop = TrainLoop(config, learner, fleet, publisher, _Nowhere(), Path(folder), **options)
        learner.watch(loop, stop, seconds, between)
        loop.run()
