"""Short inline runs of the training loop, cut where a test wants, and gone on with. With runtime "ray" and
prefetch "on" a thread makes the batches, as it does through Ray; the actors are in this process all the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from actors.fleet.fleet import InlineFleet
from actors.policy import Policy
from actors.rollout import Rollout
from configs.layout import laid_out
from configs.presets import preset
from configs.schema import Config
from envs.make import env_spec
from learner.learner import Learner, seed_everything
from learner.loop import StopFlag, TrainLoop
from learner.publish import LocalPublisher, Publisher
from learner.records import checkpoint
from learner.records.state import join_state


def tiny(preset_name: str = "cartpole_rtrl", env_id: str = "cartpole/masked", **changes: Any) -> Config:
    """Two rollouts a batch, three actors, a row of metrics for every update."""
    base = preset(preset_name)
    settings: dict[str, Any] = {
        "runtime": "inline",
        "device": "cpu",
        "env": dataclasses.replace(base.env, id=env_id),
        "batch_size": 8,
        "unroll_length": 7,
        "num_streams": 12,
        "num_actors": 3,
        "total_steps": 10_000,
        "log_interval_s": 1e-9,
    }
    return dataclasses.replace(base, **settings | changes)


class Rows:
    """A sink that keeps what it is given; `then(row)` is called after each."""

    errors = 0

    def __init__(self, then: Callable[[Mapping[str, float]], None]) -> None:
        self.rows: list[Mapping[str, float]] = []
        self._then = then

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None:
        self.rows.append(metrics)
        self._then(metrics)

    def close(self, exit_code: int = 0) -> None: ...


class Source:
    """A fleet, with `then(count)` called before the count-th rollout (from 1) is handed out."""

    def __init__(self, fleet: InlineFleet, then: Callable[[int], None], as_ray: bool) -> None:
        self._fleet, self._then, self._count, self._as_ray = fleet, then, 0, as_ray

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        rollout = self._fleet.next_rollout(timeout_s, skip)
        self._count += 1
        self._then(self._count)
        return rollout

    def state_dict(self) -> Any:
        """None as of Ray's fleet, whose streams live elsewhere."""
        return None if self._as_ray else self._fleet.state_dict()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fleet, name)


class Run:
    """One process life of a run, begun or resumed as `launch.py` does it."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        *,
        resume: bool = False,
        publisher: Publisher | None = None,
        on_rollout: Callable[[int], None] = lambda count: None,
        on_row: Callable[[Mapping[str, float]], None] = lambda row: None,
    ) -> None:
        config = laid_out(config, 1)
        torch.set_num_threads(config.learner_threads)
        seed_everything(config.seed)
        self.stop, self._folder, self._until = StopFlag(), folder, config.total_steps
        self.learner = Learner(Policy(env_spec(config.env), config.policy), config, torch.device("cpu"))
        state: dict[str, Any] | None = None
        if resume:
            loaded = checkpoint.load_latest(folder)
            meta: Any = loaded.meta
            state = join_state(meta["state"], loaded.tensors)
            self.learner.load_state_dict(state)
        publisher = LocalPublisher() if publisher is None else publisher
        publisher.publish(self.learner.policy, self.learner.updates)
        self.fleet = InlineFleet(config, publisher.source, start_step=self.learner.global_step)
        self.sink = Rows(lambda row: (self._stop_when_due(row), on_row(row))[1])
        source: Any = Source(self.fleet, on_rollout, config.runtime == "ray")
        self.loop = TrainLoop(
            *(config, self.learner, source, publisher, self.sink, folder),
            frames_per_step=1,
            stop=self.stop,
        )
        if state is not None:
            self.loop.resume(state)

    def _stop_when_due(self, row: Mapping[str, float]) -> None:
        if row.get("charts/updates", 0) >= self._until:
            self.stop.reason = "far enough"

    def run(self, until: int | None = None) -> str:
        """Trains to that update, or to what else ends it. Returns why it ended."""
        if until is not None:
            self._until = until
        try:
            return self.loop.run()
        finally:
            self.fleet.close()

    def saved(self) -> dict[str, torch.Tensor]:
        """The tensors of the newest checkpoint."""
        return checkpoint.load_latest(self._folder).tensors


def different(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that are not the same to the bit, or that one of them lacks."""
    return [name for name in sorted(a.keys() | b.keys()) if not _same(a.get(name), b.get(name))]


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is not None and b is not None and torch.equal(a, b)
