"""The driver's side of a learner that Ray runs: it is started, heard, and started anew where it fails.

    driver (launch.py)            signals, run directory, metrics.jsonl, W&B, panel, status.json
      '-- ranks (rank.py)         learner, weights' board, fleet: one dies as a whole, its actors with it
            '-- actors

Where a rank dies, raises or hangs, all of them end, and new ones go on from the newest checkpoint; what was
recorded after that is taken back. `ray.max_learner_failures` in a row end the run, unless a new checkpoint,
written in passing, comes between. Errors that would only come again (`final`) end it at once. After a stop
was asked nothing is started any more.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from actors.fleet.nodes import is_lost, report_of
from configs.schema import Config
from learner.loop import StopFlag
from learner.ranks import RankLostError
from learner.records import checkpoint
from learner.records.run_dir import RunDir
from training.desk import Report
from training.learning import Ending, LearnerFailedError
from training.placed import END_S, Placed, hung
from training.rank import Built
from training.records import Records

LOOK_S = 0.2
"""How soon a signal is seen."""
PARTING_S = 10.0
"""So long the others have, where a rank has failed, to save what they learned and to say what they saw."""


class HungError(RuntimeError):
    """A rank is silent, or its loop does not come round."""


class FallenError(Exception):
    """A rank failed, by `error`; with it all fail."""

    def __init__(self, rank: Placed, error: Exception) -> None:
        self.rank, self.error = rank, error


def _is_lost(error: Exception) -> bool:
    """Whether it says no more than that another rank is gone."""
    return isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, RankLostError)


class Gang:
    """One run through Ray."""

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
        self._ranks: list[Placed] = []
        self._failures = 0
        """Since the last checkpoint that a rank wrote in passing."""
        self._failed_at: float | None = None
        """Until it has learned again."""

    def run(self) -> Ending:
        """Trains to the end. Raises what is `final`, and LearnerFailedError."""
        while True:
            self._ranks = [
                Placed(self._config, self._node, number) for number in range(self._config.num_learners)
            ]
            try:
                return self._life()
            except FallenError as fallen:
                if self._stop.reason is not None and (self._saved_all() or self._had_failed(fallen)):
                    return self._ended_between()
                self._bury(fallen.rank, fallen.error)
            finally:
                for rank in self._ranks:
                    rank.end()

    def _life(self) -> Ending:
        limits, run_dir = self._config.ray, self._run_dir_to_go_on()
        building = [rank.build(run_dir) for rank in self._ranks]
        built: list[Built] | None = self._follow(building, limits.start_timeout_s, starts=True)
        if built is None:
            return self._ended_between()
        first = built[0]
        path = self._records.begin(first.global_step)
        self._show()
        if self._config.time_limit_s is not None and self._stop.deadline is None:
            self._stop.deadline = time.monotonic() + self._config.time_limit_s
        self._ranks[0].updates, self._ranks[0].global_step = first.updates, first.global_step
        training = [rank.train(path, self._stop.seconds_left(), first.port) for rank in self._ranks]
        endings: list[Ending] = self._follow(training, limits.learner_timeout_s)
        return endings[0]

    def _run_dir_to_go_on(self) -> Path | None:
        run_dir = self._records.run_dir
        if run_dir is None or not (self._go_on or RunDir.begun(run_dir.path)):
            return None
        return run_dir.path

    def _saved_all(self) -> bool:
        """Whether a checkpoint has every update that a rank has told of. One that was asked to stop may be
        gone, and Ray with it, before it can say that it is done."""
        run_dir = self._records.run_dir
        if run_dir is None:
            return False
        return max(checkpoint.steps(run_dir.checkpoints_path), default=-1) >= max(
            rank.global_step for rank in self._ranks
        )

    def _had_failed(self, fallen: FallenError) -> bool:
        """Whether that was before it could be asked to stop; then it is told here."""
        rank = fallen.rank
        if not rank.asked:
            report = report_of(fallen.error, rank.home)
            print(f"{rank.name} failed, and is not started anew, {self._stop.reason}:\n{report}", flush=True)
        return not rank.asked

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

    def _follow(self, calls: list[Any], limit_s: float, *, starts: bool = False) -> Any:
        """The results of a call of each rank; what they tell meanwhile is passed on. None of ranks that
        `starts` anew where the run is to end.

        Raises FallenError where a rank fails, or does not move for `limit_s`; an error of `final` as it was
        raised there.
        """
        rest = dict(zip(self._ranks, calls, strict=True))
        for rank in self._ranks:
            rank.begin()
        while rest:
            awaited = [*rest.values(), *(rank.hearing for rank in rest)]
            ready, _ = ray.wait(awaited, num_returns=1, timeout=LOOK_S)
            for rank in [rank for rank in rest if rank.hearing in ready]:
                try:
                    self._take(rank, ray.get(rank.hearing))
                    rank.listen()
                except ray.exceptions.RayError as error:
                    del rest[rank]
                    self._part(rank, error, rest)
            if self._stop.reason is not None and not self._ranks[0].told:
                for rank in self._ranks:
                    rank.tell(self._stop.reason)
                self._show(state="stopping", why=self._stop.reason)
            if starts and self._records.restarts and self._must_end():
                return None
            for rank in [rank for rank in rest if rest[rank] in ready]:
                error = self._ended(rank, rest.pop(rank))
                if error is not None:
                    self._part(rank, error, rest)
            if rest and (rank := hung(list(rest), limit_s)) is not None:
                still = rank.still(time.monotonic())
                error = HungError(f"it has not moved for {still:.0f} s\n{rank.stacks()}")
                del rest[rank]
                self._part(rank, error, rest)
        return ray.get(calls)

    def _part(self, rank: Placed, error: Exception, rest: dict[Placed, Any]) -> None:
        """A rank has failed: raises what became of it, once the `rest` have ended, or have had time to. A
        death may be known later than that another was lost by it."""
        rank.end()  # so that nobody waits for it
        found = [(rank, error)]
        calls = list(rest.values())
        done = ray.wait(calls, num_returns=len(calls), timeout=PARTING_S)[0] if calls else []
        for other in [other for other in rest if rest[other] in done]:
            if (its := self._ended(other, rest[other])) is not None:
                found.append((other, its))
        rank, error = next((each for each in found if not _is_lost(each[1])), found[0])
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else None
        if isinstance(cause, self._final):
            raise cause from None
        raise FallenError(rank, error) from error

    def _ended(self, rank: Placed, call: Any) -> Exception | None:
        """How a call that is done ended, once all that the rank had to tell is passed on."""
        with suppress(ray.exceptions.RayError):  # a dead one has nothing to tell any more
            self._take(rank, ray.get(rank.hearing, timeout=END_S))
            rank.listen(0.0)
            self._take(rank, ray.get(rank.hearing, timeout=END_S))
            rank.listen()
        try:
            ray.get(call)
        except ray.exceptions.RayError as error:
            return error
        return None

    def _take(self, rank: Placed, report: Report) -> None:
        rank.take(report)
        for global_step, row in report.rows:
            self._records.write(global_step, row)
        if report.saves:
            self._failures = 0
        if self._failed_at is not None and report.updates > rank.updates > -1:
            seconds = time.monotonic() - self._failed_at
            print(f"the learner learns again, {seconds:.1f} s after it failed", flush=True)
            self._failed_at = None
        self._show()

    def _show(self, **more: Any) -> None:
        if (status := self._records.status) is not None:
            actors = [actor for rank in self._ranks for actor in rank.actors()]
            status.set(ranks=[rank.shown() for rank in self._ranks], actors=actors, **more)
            status.starves(next((rank.starving for rank in self._ranks if rank.starving), ""))

    # --- failing -------------------------------------------------------------------------------

    def _bury(self, rank: Placed, error: Exception) -> None:
        """Tells of a failure. Raises LearnerFailedError where nothing follows it."""
        self._failures += 1
        self._failed_at = self._failed_at or time.monotonic()
        report, limit = report_of(error, rank.home), self._config.ray.max_learner_failures
        if self._stop.reason is not None:
            raise LearnerFailedError(
                f"{self._stop.reason}, but {rank.name} failed before its last checkpoint:\n{report}"
            ) from error
        if is_lost(self._node):
            raise LearnerFailedError(
                f"Ray has died on this machine, and {rank.name} with it:\n{report}"
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
        go_on = "goes on" if len(self._ranks) == 1 else f"all {len(self._ranks)} go on"
        print(f"{rank.name} failed, and {go_on} {where}:\n{report}", flush=True)
