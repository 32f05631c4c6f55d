"""The driver's side of a learner that Ray runs: it is started, heard, and started anew where it fails.

    driver (launch.py)            signals, run directory, metrics.jsonl, W&B, panel, status.json
      '-- rank (rank.py)          learner, weights' board, fleet: dies as a whole, its actors with it
            '-- actors

A rank that dies, raises or hangs is replaced by one that goes on from the newest checkpoint; what was
recorded after that is taken back. `ray.max_learner_failures` in a row end the run, unless a new checkpoint,
written in passing, comes between. Errors that would only come again (`final`) end it at once. After a stop
was asked nothing is started any more.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from actors.fleet.nodes import is_lost, report_of
from configs.schema import Config
from learner.loop import StopFlag
from learner.records import checkpoint
from learner.records.run_dir import RunDir
from training.desk import Report
from training.learning import Ending, LearnerFailedError
from training.placed import END_S, Placed
from training.rank import Built
from training.records import Records

LOOK_S = 0.2
"""How soon a signal is seen."""


class HungError(RuntimeError):
    """A rank is silent, or its loop does not come round."""


class Gang:
    """One run through Ray, whose learner is a single rank so far."""

    def __init__(
        self,
        config: Config,
        records: Records,
        stop: StopFlag,
        final: tuple[type[Exception], ...],
        go_on: bool,
    ) -> None:
        """`config`: laid out. `go_on`: the run directory of `records` holds a run that goes on."""
        self._config, self._records, self._stop, self._final = config, records, stop, final
        self._go_on, self._node = go_on, ray.get_runtime_context().get_node_id()
        self._failures = 0
        """Since the last checkpoint that a rank wrote in passing."""
        self._failed_at: float | None = None
        """Until it has learned again."""

    def run(self) -> Ending:
        """Trains to the end. Raises what is `final`, and LearnerFailedError."""
        while True:
            rank = Placed(self._config, self._node)
            try:
                return self._life(rank)
            except (ray.exceptions.RayError, HungError) as error:
                if self._stop.reason is not None and self._saved_all_of(rank):
                    return self._ended_between()
                self._bury(rank, error)
            finally:
                rank.end()

    def _life(self, rank: Placed) -> Ending:
        limits = self._config.ray
        building = rank.build(self._run_dir_to_go_on())
        built: Built | None = self._follow(rank, building, limits.start_timeout_s, starts=True)
        if built is None:
            return self._ended_between()
        path = self._records.begin(built.global_step)
        self._show(rank)
        if self._config.time_limit_s is not None and self._stop.deadline is None:
            self._stop.deadline = time.monotonic() + self._config.time_limit_s
        rank.updates, rank.global_step = built.updates, built.global_step
        training = rank.train(path, self._stop.seconds_left())
        return self._follow(rank, training, limits.learner_timeout_s)

    def _run_dir_to_go_on(self) -> Path | None:
        run_dir = self._records.run_dir
        if run_dir is None or not (self._go_on or RunDir.begun(run_dir.path)):
            return None
        return run_dir.path

    def _saved_all_of(self, rank: Placed) -> bool:
        """Whether a checkpoint has every update that the rank has told of. One that was asked to stop may be
        gone, and Ray with it, before it can say that it is done."""
        run_dir = self._records.run_dir
        if run_dir is None:
            return False
        return max(checkpoint.steps(run_dir.checkpoints_path), default=-1) >= rank.global_step

    def _must_end(self) -> bool:
        return self._stop.reason is not None or self._stop.seconds_left() == 0.0

    def _ended_between(self) -> Ending:
        """With the newest checkpoint, which no learner goes on from any more."""
        limit = self._config.time_limit_s
        reason = self._stop.reason or f"time_limit_s = {limit:g} reached"
        run_dir = self._records.run_dir
        if run_dir is None or not RunDir.begun(run_dir.path):
            raise LearnerFailedError(f"{reason}, and no learner had come to its first update (told above)")
        counters = run_dir.load_state()["counters"]
        self._records.roll_back(counters["global_step"])
        return Ending(reason, counters["global_step"], counters["updates"])

    # --- listening -----------------------------------------------------------------------------

    def _follow(self, rank: Placed, call: Any, limit_s: float, *, starts: bool = False) -> Any:
        """The result of a rank's call; what it tells meanwhile is passed on. None of one that `starts` anew
        where the run is to end.

        Raises RayError where the rank fails, HungError where it does not move for `limit_s`; an error of
        `final` as it was raised there.
        """
        rank.heard_at, rank.still_s = time.monotonic(), 0.0
        while True:
            ready, _ = ray.wait([call, rank.hearing], num_returns=1, timeout=LOOK_S)
            if rank.hearing in ready:
                self._take(rank, ray.get(rank.hearing))
                rank.listen()
            if self._stop.reason is not None and not rank.told:
                rank.tell(self._stop.reason)
                self._show(rank, state="stopping", why=self._stop.reason)
            if starts and self._records.restarts and self._must_end():
                return None
            if call in ready:
                return self._result(rank, call)
            still = rank.still_s + time.monotonic() - rank.heard_at
            if still > limit_s:
                raise HungError(f"it has not moved for {still:.0f} s\n{rank.stacks()}")

    def _result(self, rank: Placed, call: Any) -> Any:
        try:
            return ray.get(call)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, self._final):
                raise error.cause from None
            raise
        finally:
            with suppress(ray.exceptions.RayError):  # a dead one has nothing to tell any more
                self._take(rank, ray.get(rank.hearing, timeout=END_S))
                rank.listen(0.0)
                self._take(rank, ray.get(rank.hearing, timeout=END_S))
                rank.listen()

    def _take(self, rank: Placed, report: Report) -> None:
        for error, text in report.printed:
            (sys.stderr if error else sys.stdout).write(text)
        if report.printed:
            sys.stdout.flush()
        for global_step, row in report.rows:
            self._records.write(global_step, row)
        rank.heard_at, rank.still_s, rank.heard = time.monotonic(), report.still_s, report.number
        rank.global_step = max(rank.global_step, report.global_step)
        if report.saves:
            self._failures = 0
        if self._failed_at is not None and report.updates > rank.updates > -1:
            seconds = time.monotonic() - self._failed_at
            print(f"the learner learns again, {seconds:.1f} s after it failed", flush=True)
            self._failed_at = None
        self._show(rank, actors=report.actors)
        if self._records.status is not None:
            self._records.status.starves(report.starving)

    def _show(self, rank: Placed, **more: Any) -> None:
        if self._records.status is not None:
            self._records.status.set(ranks=[rank.shown()], **more)

    # --- failing -------------------------------------------------------------------------------

    def _bury(self, rank: Placed, error: Exception) -> None:
        """Tells of a failure. Raises LearnerFailedError where nothing follows it."""
        self._failures += 1
        self._failed_at = self._failed_at or time.monotonic()
        report, limit = report_of(error, rank.home), self._config.ray.max_learner_failures
        if self._stop.reason is not None:
            raise LearnerFailedError(
                f"{self._stop.reason}, but the learner failed before its last checkpoint:\n{report}"
            ) from error
        if is_lost(self._node):
            raise LearnerFailedError(
                f"Ray has died on this machine, and the learner with it:\n{report}"
            ) from error
        if self._failures >= limit:
            raise LearnerFailedError(
                f"the learner failed {limit} times with no checkpoint written in passing between "
                f"(ray.max_learner_failures), at last by:\n{report}"
            ) from error
        self._records.restarts += 1
        if self._records.status is not None:
            why = str(error).strip().splitlines()[0]
            gone = {"ranks": [], "actors": [], "learner_restarts": self._records.restarts}
            self._records.status.set(state="restarting", why=why, **gone)
        run_dir = self._records.run_dir
        newest = None if run_dir is None else checkpoint.newest(run_dir.path / "checkpoints")
        where = "from the beginning" if newest is None else f"from {newest.name}"
        print(f"the learner failed, and goes on {where}:\n{report}", flush=True)
