"""A rank of the learner, the only one or one of several: a plain Ray actor. A call that is lost, or whose
answer is, Ray makes again; none does twice what it did.

What it needs besides Ray is imported when it builds, after it has said where it lives.

    build, train             one after the other, in one thread
    identity, hear, stop     beside these, in another (GROUP)
"""

from __future__ import annotations

import atexit
import faulthandler
import functools
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.fleet.nodes import Identity, identity
from actors.fleet.stops import STOPS
from actors.output import leave
from configs.schema import Config
from training.desk import Desk, Report
from training.signals import handled

if TYPE_CHECKING:
    from learner.loop import StopFlag
    from training.learning import Ending, Learning
    from training.meeting import Meeting

GROUP = "beside"
"""Ray's name for the threads that answer while the rank builds or trains."""
AS_THE_DRIVERS = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
"""Variables that Ray sets for its workers. The rank is no actor beside others: it has the driver's."""
DUMP = signal.SIGUSR2
"""At this signal a rank writes to its log where each of its threads is."""


def _end_with(driver: int) -> None:
    """Ends this process when the driver is gone, however it went: its lock of the run directory is gone too,
    and another run may write there. Ray ends it as well, but seconds later."""
    with suppress(ProcessLookupError):  # it is gone already
        select.select([os.pidfd_open(driver)], [], [])
    os._exit(1)


@dataclass(frozen=True, slots=True)
class Built:
    """Where a rank that has been built begins."""

    global_step: int
    updates: int
    port: int | None
    """At which the ranks meet, where there are several: the first one's."""


def once(method: Callable[..., Any]) -> Callable[..., Any]:
    """What came of the first call is the answer to every later one."""

    @functools.wraps(method)
    def call(self: Rank, *arguments: Any) -> Any:
        outcome = self.outcomes.get(method.__name__)
        if outcome is None:
            outcome = self.outcomes[method.__name__] = Future()
            try:
                outcome.set_result(method(self, *arguments))
            except BaseException as error:  # raised below, whatever it is
                outcome.set_exception(error)
        return outcome.result()

    return call


class Rank:
    def __init__(
        self,
        config_json: str,
        environment: Mapping[str, str | None],
        threads: int,
        number: int,
        driver: int,
    ) -> None:
        """`environment`: of the driver, by AS_THE_DRIVERS. `threads`: of torch, unless the config says.
        `number`: among the ranks, from 0. `driver`: the process that keeps the run directory's lock."""
        threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._config_json, self._threads, self._number = config_json, threads, number
        self._desk = Desk()
        # Where all processes of a job are asked to end it waits for no word of the driver's.
        handled(ExitStack(), lambda number, _: self.stop(f"stopped by {signal.Signals(number).name}"), *STOPS)
        faulthandler.register(DUMP, all_threads=True)  # to the log itself, whatever becomes of sys.stderr
        self._desk.take_output()
        atexit.register(leave)
        self._workers = ExitStack()
        self._learning: Learning | None = None
        self._meeting: Meeting | None = None
        self._flag: StopFlag | None = None
        self._asked: str | None = None
        self._since = time.monotonic()
        self.outcomes: dict[str, Future[Any]] = {}
        """Of the calls that may come twice (`once`)."""

    def identity(self) -> Identity:
        return identity()

    @once
    def build(self, run_dir: str | None) -> Built:
        """`run_dir`: of the run that goes on; None where one begins. Raises as `Learning`."""
        import torch

        from learner.loop import StopFlag
        from training.learning import Learning
        from training.meeting import Meeting

        self._flag = StopFlag()
        self._flag.reason = self._asked  # `stop` sets the two in the other order: neither misses the other
        torch.set_num_threads(self._threads)
        config = Config.from_json(self._config_json)
        self._meeting = Meeting(self._number, config)
        directory = None if run_dir is None else Path(run_dir)
        self._learning = Learning(config, directory, self._workers, self._meeting.ranks)
        learner = self._learning.learner
        return Built(learner.global_step, learner.updates, self._meeting.port)

    @once
    def train(self, run_dir: str, seconds_left: float | None, port: int | None) -> Ending:
        """`seconds_left`: until the run's time limit, which the driver keeps and the first rank hears of.
        `port`: as the first rank said. Raises as `TrainLoop.run`, and RankLostError where another is gone."""
        assert self._learning is not None and self._flag is not None, "build() comes first"
        assert self._meeting is not None
        if seconds_left is not None and self._number == 0:
            self._flag.deadline = time.monotonic() + seconds_left
        self._since = time.monotonic()
        try:
            self._meeting.join(port, self._learning.learner)
            return self._learning.run(Path(run_dir) / "checkpoints", self._desk, self._flag)
        finally:
            self._desk.close()

    def stop(self, reason: str) -> None:
        """Asks for a clean end."""
        self._asked = reason
        if self._flag is not None:
            self._flag.reason = reason

    def hear(self, timeout_s: float, heard: int) -> Report:
        """What there is to tell, at the latest after `timeout_s`. `heard`: the number of the last report that
        arrived."""
        report = self._desk.take(timeout_s, heard)
        learning = self._learning
        loop = None if learning is None else learning.loop
        blocked = self._meeting is not None and self._meeting.ranks.blocked
        if learning is None or loop is None:
            return replace(report, still_s=time.monotonic() - self._since, blocked=blocked)
        return replace(
            report,
            still_s=time.monotonic() - max(self._since, loop.came_round),
            blocked=blocked,
            updates=learning.learner.updates,
            global_step=learning.learner.global_step,
            saves=loop.saves,
            starving=learning.fleet.counters.starving,
            actors=learning.fleet.standing(),
        )
