"""A rank of the learner as the driver has it: where it was placed, what it is asked and tells, its end."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import psutil
import ray
import ray.exceptions
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.fleet.nodes import Identity
from configs.schema import Config
from training.desk import Report
from training.rank import AS_THE_DRIVERS, DUMP, GROUP, Rank

ANSWER_S = 1.0
"""So long a rank that has nothing to tell takes to say so."""
DUMP_S = 1.0
"""So long a rank that hangs has to write where."""
LEAVE_S = 3.0
"""So long a rank that Ray has asked to leave has for it."""
END_S = 10.0
"""So long Ray has to end a rank; where Ray itself is gone it would take for ever."""


class Placed:
    """Of one rank, on the node of the driver."""

    def __init__(self, config: Config, node_id: str, number: int) -> None:
        self.number, self._several = number, config.num_learners > 1
        self.name = f"learner {number}" if self._several else "the learner"
        here = NodeAffinitySchedulingStrategy(node_id, soft=False)
        # It takes no CPU of Ray's, which are the actors', and sees the GPUs that the driver sees.
        options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": here}
        options["max_task_retries"] = -1  # of calls that are lost: to one that is dead none is made again
        actor: Any = cast(Any, ray.remote)(concurrency_groups={GROUP: 2}, **options)(Rank)
        environment = {name: os.environ.get(name) for name in AS_THE_DRIVERS}
        threads = max(1, torch.get_num_threads() // config.num_learners)
        self._handle = actor.remote(config.to_json(), environment, threads, number, os.getpid())
        self._identity = self._beside("identity")
        self._home: Identity | None = None
        self._process: psutil.Process | None = None
        self.told = False
        self.asked = False
        """Whether it lived when it was asked to stop, so that it could still save."""
        self.begin()
        self._latest = Report()
        self._unfinished = {False: "", True: ""}
        """Lines that it has begun to print."""
        self.updates = -1
        """That it began with, once it trains."""
        self.global_step = 0
        """The latest that it told of."""
        self.hearing: Any = None
        self.heard = 0
        """The number of its last report that arrived."""
        self.listen()

    def _beside(self, method: str, *arguments: Any) -> Any:
        return getattr(self._handle, method).options(concurrency_group=GROUP).remote(*arguments)

    def build(self, run_dir: Path | None) -> Any:
        return self._handle.build.remote(None if run_dir is None else str(run_dir))

    def train(self, run_dir: Path, seconds_left: float | None, port: int | None) -> Any:
        return self._handle.train.remote(str(run_dir), seconds_left, port)

    def begin(self) -> None:
        """It is asked for something: the time until it moves counts from now."""
        self.heard_at, self.still_s, self.blocked = time.monotonic(), 0.0, False

    def take(self, report: Report) -> None:
        """What it tells is known from now on. Its lines are printed, with its number unless that is 0."""
        self.heard_at, self.still_s, self.blocked = time.monotonic(), report.still_s, report.blocked
        self.heard = report.number
        self._latest, self.global_step = report, max(self.global_step, report.global_step)
        for error, text in report.printed:
            stream = sys.stderr if error else sys.stdout
            if self.number == 0:
                stream.write(text)
                continue
            *lines, self._unfinished[error] = (self._unfinished[error] + text).split("\n")
            stream.writelines(f"{self.name}: {line}\n" for line in lines)
        if report.printed:
            sys.stdout.flush()

    @property
    def starving(self) -> str:
        """Why it gets nothing to learn from, as it told last."""
        why = self._latest.starving
        return f"{self.name}: {why}" if why and self.number else why

    def actors(self) -> list[dict[str, object]]:
        """Its actors by their state, as it told last; where there are several ranks, with whose they are."""
        return [actor | ({"rank": self.number} if self._several else {}) for actor in self._latest.actors]

    def still(self, now: float) -> float:
        """Seconds since it moved, as far as is known."""
        return self.still_s + now - self.heard_at

    def listen(self, timeout_s: float = ANSWER_S) -> None:
        self.hearing = self._beside("hear", timeout_s, self.heard)

    def tell(self, reason: str) -> None:
        self.told, self.asked = True, self._lives()
        self._beside("stop", reason)

    @property
    def home(self) -> Identity | None:
        """None where it has not come so far as to say."""
        with suppress(ray.exceptions.RayError, psutil.NoSuchProcess):
            self._home = self._home or ray.get(self._identity, timeout=0)
            self._process = self._process or psutil.Process(self._home.pid)
        return self._home

    def _lives(self) -> bool:
        """As far as is known: one that has not said yet where it is may."""
        if self.home is None or self._process is None:
            return True
        with suppress(psutil.NoSuchProcess):
            return self._process.status() != psutil.STATUS_ZOMBIE
        return False

    def shown(self) -> dict[str, Any]:
        home = self.home
        return {"pid": None if home is None else home.pid, "node": socket.gethostname()}

    def stacks(self) -> str:
        """Has a rank that hangs write to its log where it is; `report_of` reads it."""
        if self.home is not None and self._process is not None:
            with suppress(psutil.NoSuchProcess):
                self._process.send_signal(DUMP)
            time.sleep(DUMP_S)
        return "its log, with where each thread was if it could still say so:"

    def end(self) -> None:
        """Ends it, whatever it is doing, and with it all that is its own."""
        home, process = self.home, self._process
        _within(END_S, lambda: ray.kill(self._handle, no_restart=True))
        if home is not None and process is not None:
            with suppress(psutil.NoSuchProcess):
                try:
                    process.wait(LEAVE_S)  # Ray asks it to leave, which one that is stopped does not hear
                except psutil.TimeoutExpired:
                    process.kill()


def hung(ranks: Sequence[Placed], limit_s: float) -> Placed | None:
    """Which of them has not moved for so long. Those that wait for it do not move either."""
    now = time.monotonic()
    if max(rank.still(now) for rank in ranks) <= limit_s:
        return None
    silent = [rank for rank in ranks if now - rank.heard_at > limit_s / 2]
    return max(
        silent or [rank for rank in ranks if not rank.blocked] or ranks, key=lambda rank: rank.still(now)
    )


def _within(seconds: float, action: Callable[[], object]) -> None:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
