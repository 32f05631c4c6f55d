"""A rank of the learner as the driver has it: where it was placed, what it is asked, and its end."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
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

    def __init__(self, config: Config, node_id: str) -> None:
        here = NodeAffinitySchedulingStrategy(node_id, soft=False)
        # It takes no CPU of Ray's, which are the actors', and sees the GPUs that the driver sees.
        options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": here}
        options["max_task_retries"] = -1  # of calls that are lost: to one that is dead none is made again
        actor: Any = cast(Any, ray.remote)(concurrency_groups={GROUP: 2}, **options)(Rank)
        environment = {name: os.environ.get(name) for name in AS_THE_DRIVERS}
        self._handle = actor.remote(config.to_json(), environment, torch.get_num_threads(), os.getpid())
        self._identity = self._beside("identity")
        self._home: Identity | None = None
        self._process: psutil.Process | None = None
        self.told = False
        self.heard_at, self.still_s = time.monotonic(), 0.0
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

    def train(self, run_dir: Path, seconds_left: float | None) -> Any:
        return self._handle.train.remote(str(run_dir), seconds_left)

    def listen(self, timeout_s: float = ANSWER_S) -> None:
        self.hearing = self._beside("hear", timeout_s, self.heard)

    def tell(self, reason: str) -> None:
        self.told = True
        self._beside("stop", reason)

    @property
    def home(self) -> Identity | None:
        """None where it has not come so far as to say."""
        with suppress(ray.exceptions.RayError, psutil.NoSuchProcess):
            self._home = self._home or ray.get(self._identity, timeout=0)
            self._process = self._process or psutil.Process(self._home.pid)
        return self._home

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


def _within(seconds: float, action: Callable[[], object]) -> None:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
