"""The loop fed by a thread, over real actors: one dies, the board of weights goes silent, and still every
rollout is learned from once, in order, under its incarnation."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from actors.fleet.cluster import ray_session
from actors.policy import Policy
from configs.layout import laid_out
from configs.presets import preset
from configs.schema import Config
from envs.make import env_spec
from learner.batcher import Batch
from learner.learner import Learner
from learner.loop import StopFlag, TrainLoop
from learner.publish import RayPublisher
from learner.records import checkpoint
from tests.learner.loop_runs import Rows
from tests.learner.test_every_rollout_once import lived

pytestmark = pytest.mark.ray
SLOTS, T, LENGTH = 2, 5, 7


def _config(**changes: Any) -> Config:
    base = preset("cartpole_rtrl")
    settings: dict[str, Any] = {
        "env": dataclasses.replace(base.env, id=f"counting/{LENGTH}", num_envs=SLOTS),
        "prefetch": "on",
        "device": "cpu",
        "num_streams": 3 * SLOTS,
        "num_actors": 3,
        "batch_size": 4,
        "unroll_length": T,
        "total_steps": 10**9,
        "log_interval_s": 1e-9,
        "ray": dataclasses.replace(base.ray, object_store_mib=100),
    }
    return laid_out(dataclasses.replace(base, **settings | changes), 3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_session(_config().ray, num_cpus=3):
        yield


class _Looking(Learner):
    """Looks at every column that it learns from; `then()` is called before each update."""

    def __init__(self, config: Config) -> None:
        super().__init__(Policy(env_spec(config.env), config.policy), config, torch.device("cpu"))
        self.then: Any = None
        self.lives: dict[int, list[int]] = defaultdict(list)
        """Incarnations of each stream, in the order in which they were learned from."""
        self.learned: dict[tuple[int, int], int] = defaultdict(int)

    def launch(self, batch: Batch, steps: int | None = None) -> None:
        self.then()
        column = 0
        for piece in batch.streams:
            for stream in piece.streams:
                key = (stream, piece.incarnation)
                assert piece.sequence_number == self.learned[key], f"stream {stream}: lost or swapped"
                self.learned[key] += 1
                if piece.incarnation not in self.lives[stream]:
                    self.lives[stream].append(piece.incarnation)
                assert piece.incarnation == self.lives[stream][-1], "an earlier life goes on"
                start = piece.sequence_number * T
                seen = batch.observation[:, column].tolist()
                expected = lived(stream % SLOTS, start + T + 1, LENGTH)[start:]
                assert seen == [[index, episode, stream % SLOTS] for index, episode in expected]
                column += 1
        super().launch(batch, steps)


def _run(config: Config, folder: Path, then: Any) -> tuple[_Looking, Rows, Any, str]:
    """A whole run over real actors; `then(learner, fleet, stop)` is called before each update."""
    from actors.fleet.ray_fleet import RayFleet  # imports Ray, whose token `ray_session` sets before

    stop, publisher = StopFlag(), RayPublisher()
    learner = _Looking(config)
    publisher.publish(learner.policy, 0)
    fleet = RayFleet(config, publisher.source)
    learner.then = lambda: then(learner, fleet, stop)
    rows = Rows(lambda row: None)
    loop = TrainLoop(config, learner, fleet, publisher, rows, folder, frames_per_step=1, stop=stop)
    try:
        reason = loop.run()
    finally:
        fleet.close()
        publisher.close()
    assert "prefetch" not in [thread.name for thread in threading.enumerate()]
    return learner, rows, fleet, reason


def _board() -> psutil.Process:
    children = psutil.Process().children(recursive=True)
    (found,) = (process for process in children if process.name().startswith("ray::Board"))
    return found


def test_an_actor_that_dies_and_a_silent_board_lose_nothing_else(cluster: None, tmp_path: Path) -> None:
    """While the board is silent no weights are published, and actors that ask for some stand still."""
    silent: list[psutil.Process] = []

    def then(learner: _Looking, fleet: Any, stop: StopFlag) -> None:
        if learner.updates == 5:
            silent.append(_board())
            silent[0].suspend()
            threading.Timer(1.0, silent[0].resume).start()
        elif learner.updates == 10:
            os.kill(fleet.worker_pids()[0], signal.SIGKILL)
        elif learner.updates >= 40 and 2 in map(len, learner.lives.values()):
            stop.reason = "seen enough"

    learner, rows, fleet, reason = _run(_config(), tmp_path, then)
    assert reason == "seen enough" and fleet.counters.actor_restarts == 1
    assert rows.rows[-1]["faults/actor_restarts"] == 1 and fleet.counters.env_errors == 0
    assert sorted(map(len, learner.lives.values())) == [1, 1, 1, 1, 2, 2], "one actor's two streams"
    assert rows.rows[-1]["rtrl/trace_breaks"] == SLOTS
    assert checkpoint.load_latest(tmp_path).step == learner.global_step


def test_actors_that_keep_failing_end_the_run_from_the_thread(cluster: None, tmp_path: Path) -> None:
    from actors.fleet.fleet import FleetError

    config = _config()
    limits = dataclasses.replace(config.ray, max_consecutive_failures=1)

    def then(learner: _Looking, fleet: Any, stop: StopFlag) -> None:
        if learner.updates == 3:
            for pid in fleet.worker_pids():
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(FleetError, match="in a row"):
        _run(dataclasses.replace(config, ray=limits), tmp_path, then)
    assert checkpoint.load_latest(tmp_path).step >= 3 * config.steps_per_update
