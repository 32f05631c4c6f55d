"""A thread that makes the next batch: whole, in order, once, never over one in use; bounded, and ended with
the run. The same through Ray: tests/integration/test_prefetch_through_ray.py."""

from __future__ import annotations

import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.fleet.fleet import FleetError
from actors.rollout import Rollout
from configs.schema import Config
from learner.batcher import Batch
from learner.memory import OutOfMemory
from learner.prefetch import InTurn, Prefetcher, make_feed, prefetches
from learner.publish import LocalPublisher
from learner.records import checkpoint
from tests.integration.cli import wait_until
from tests.learner.batches import config
from tests.learner.loop_runs import Run, different, tiny
from tests.learner.test_batcher import E, rollout
from tests.learner.test_every_rollout_once import Actors, check

CPU, GPU = torch.device("cpu"), torch.device("cuda")
STEPS = tiny().steps_per_update
ON: dict[str, Any] = {"runtime": "ray", "prefetch": "on"}


class _Counted:
    """A source of numbered rollouts of three actors; `then(count)` before the count-th (from 1) is given."""

    def __init__(self, then: Callable[[int], Rollout | None] = lambda count: None, **changes: Any) -> None:
        self.given, self._then, self._changes = 0, then, changes

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        number, actor_id = divmod(self.given, 3)
        assert actor_id not in skip
        self.given += 1
        self._then(self.given)
        return rollout(actor_id, number, **self._changes)


def _feed(source: Any, updates: int = 0, **changes: Any) -> Prefetcher:
    settings = {"num_streams": 3 * E, "batch_size": E} | changes
    return Prefetcher(config(**settings), source, CPU, lambda: updates)


def _next(feed: Prefetcher) -> Batch:
    found: list[Batch | None] = []

    def came() -> bool:
        found.append(feed.take())
        if found[-1] is None:
            feed.wait()
        return found[-1] is not None

    wait_until(came)
    assert found[-1] is not None
    return found[-1]


@pytest.fixture(autouse=True)
def threads_before() -> Iterator[None]:
    """What another test has left when it failed is not this one's fault."""
    _before.update(threading.enumerate())
    yield


_before: set[threading.Thread] = set()


def _alive() -> list[str]:
    return [thread.name for thread in set(threading.enumerate()) - _before if thread.name == "prefetch"]


def _take_time(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until)


# --- whose batches -------------------------------------------------------------------------------


def test_auto_is_a_thread_through_ray_beside_a_gpu_alone() -> None:
    auto, on, off = (config(prefetch=value) for value in ("auto", "on", "off"))
    assert [prefetches(one, CPU) for one in (auto, on, off)] == [False, True, False]
    assert [prefetches(one, GPU) for one in (auto, on, off)] == [True, True, False]
    assert not prefetches(config(runtime="inline"), GPU)
    assert isinstance(make_feed(on, _Counted(), CPU, lambda: 0), Prefetcher)
    assert isinstance(make_feed(off, _Counted(), CPU, lambda: 0), InTurn)


# --- batches -------------------------------------------------------------------------------------


def test_a_batch_in_use_stays_as_it_is_while_the_next_one_is_made() -> None:
    feed = _feed(_Counted())
    for count in range(7):
        batch = _next(feed)
        wait_until(lambda: len(feed._ready) >= 1)  # the next one is whole
        number, actor_id = divmod(count, 3)
        (piece,) = batch.streams
        assert (piece.first_stream, piece.sequence_number) == (E * actor_id, number)
        expected = rollout(actor_id, number)
        for name in ("observation", "reward", "reset", "action", "behaviour_logits"):
            assert np.array_equal(getattr(batch, name).numpy(), getattr(expected, name)), name
        assert np.array_equal(batch.initial_state[0].numpy(), expected.initial_state[0])
        assert np.array_equal(batch.previous_action[0].numpy(), expected.previous_action)
    feed.close()


def test_stacked_frames_of_a_batch_in_use_stay_too() -> None:
    """Frames 0, 1, 2, ... of 7 observations and one before them, each one shade."""

    def frames(count: int) -> dict[str, Any]:
        shades = np.arange(100 * count, 100 * count + 8, dtype=np.float32)
        whole = np.broadcast_to(shades[:, None, None, None, None], (8, E, 1, 2, 2)).copy()
        return {"observation": whole, "game_over": np.zeros((7, E), np.bool_)}

    source = _Counted()
    source.next_rollout = lambda timeout_s, skip=(): (  # type: ignore[method-assign]
        setattr(source, "given", source.given + 1),
        rollout(source.given % 3, source.given, **frames(source.given)),
    )[1]
    feed = _feed(source)
    for count in range(1, 6):
        batch = _next(feed)
        wait_until(lambda: len(feed._ready) >= 1)
        seen = batch.observation[:, 0, :, 0, 0]
        assert seen.tolist() == [[100.0 * count + t, 100.0 * count + t + 1] for t in range(7)]
    feed.close()


@pytest.mark.parametrize(("widths", "size"), [([48], 32), ([7, 7, 6], 13), ([1] * 9, 4)])
def test_every_rollout_once_and_in_order_whatever_the_layout(widths: list[int], size: int) -> None:
    """Each batch is looked at when the one after it is ready."""
    actors, total = Actors(widths, seed=3), sum(widths)
    feed = Prefetcher(config(num_streams=total, batch_size=size, unroll_length=3), actors, CPU, lambda: 0)
    learned: dict[tuple[int, int], int] = defaultdict(int)
    for _ in range(25):
        batch = _next(feed)
        wait_until(lambda: len(feed._ready) >= 1)
        check(batch, size, actors.first, learned)
    feed.close()
    waiting = sum(piece.num_streams for ahead, *_ in feed._ready for piece in ahead.streams)
    waiting += sum(one.num_streams for one in feed.batcher._waiting)
    assert sum(learned.values()) + waiting == actors.made, "learned from, or waiting here: none is lost"


def test_a_slow_learner_bounds_the_thread_to_one_batch_ahead() -> None:
    source = _Counted()
    feed = _feed(source, batch_size=2 * E)
    for number in range(1, 5):
        _next(feed)
        wait_until(lambda: len(feed._ready) >= 1)
        assert not feed._free, "so that it can make none"
        assert source.given == 2 * (number + 1) and feed.rollouts == 2
    feed.close()
    assert source.given == 10


def test_lag_is_judged_by_the_update_that_a_rollout_can_be_learned_from_at() -> None:
    """Acted by version 3, allowed 2: fit for the update after 5 others, too old after 6."""
    feed = _feed(_Counted(version=3), updates=5, max_policy_lag=2)
    _next(feed)
    wait_until(lambda: feed.batcher.dropped > 0 or feed._ready)
    assert not feed._ready and feed.take() is None
    feed.close()


def test_a_rollouts_age_counts_until_the_learner_takes_it() -> None:
    feed = _feed(_Counted())
    _next(feed)
    wait_until(lambda: len(feed._ready) >= 1)
    made = feed._ready[0][0].wait_ms
    _take_time(0.2)
    assert _next(feed).wait_ms >= made + 200.0
    feed.close()


# --- its end -------------------------------------------------------------------------------------


def _fail(at: int, error: BaseException) -> Callable[[int], None]:
    def then(count: int) -> None:
        if count == at:
            raise error

    return then


def test_what_is_raised_in_the_thread_comes_after_the_batches_before_it() -> None:
    feed = _feed(_Counted(_fail(3, FleetError("gone"))))
    for number in range(2):
        assert _next(feed).streams[0].first_stream == E * number
    with pytest.raises(FleetError, match="gone") as caught:
        _next(feed)
    assert "then" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    feed.close()
    assert not _alive()


def test_an_error_that_nobody_was_told_of_is_told_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    feed = _feed(_Counted(_fail(2, FleetError("gone"))))
    _next(feed)
    wait_until(lambda: feed._error is not None)
    feed.close()
    assert "not needed any more, could not be made: FleetError('gone')" in capsys.readouterr().out


def test_it_can_be_closed_before_it_began_and_twice() -> None:
    feed = _feed(_Counted())
    feed.close()
    feed.close()
    assert feed.take() is None and feed.rollouts == 0


def test_a_thread_that_hangs_holds_nothing_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learner.prefetch.JOIN_S", 0.1)
    let_go = threading.Event()
    source = _Counted(lambda count: let_go.wait())
    feed = _feed(source)
    assert feed.take() is None
    wait_until(lambda: source.given == 1)
    feed.close()
    assert "the prefetching thread has not ended within 0.1 s" in capsys.readouterr().out
    assert feed._thread is not None and feed._thread.daemon
    let_go.set()
    feed._thread.join()


# --- in the loop ---------------------------------------------------------------------------------


def _asking(run: Run, at: int, then: Callable[[], Any]) -> None:
    """From the `at`-th rollout (from 1) on, the fleet calls `then` before it answers, if it does."""
    original, count = run.fleet.next_rollout, [0]

    def ask(timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        count[0] += 1
        return original(timeout_s, skip) if count[0] < at else then()

    run.fleet.next_rollout = ask  # type: ignore[method-assign]


def test_a_run_reaches_its_steps_and_not_one_more(tmp_path: Path) -> None:
    run = Run(tiny(**ON, total_steps=5 * STEPS), tmp_path)
    assert run.run() == f"total_steps = {5 * STEPS} reached"
    assert run.learner.updates == 5 and checkpoint.load_latest(tmp_path).step == 5 * STEPS
    assert run.sink.rows[-1]["rtrl/trace_breaks"] == 0 and not _alive()
    waits = [row["perf/time_wait_ms"] for row in run.sink.rows]
    assert all(row["perf/time_transfer_ms"] > 0 for row in run.sink.rows) and max(waits) > 0


@pytest.mark.parametrize("how", ["stop", "time"])
@pytest.mark.parametrize("rollouts", [0, 5])
def test_a_learner_that_waits_for_a_batch_hears_the_stop(how: str, rollouts: int, tmp_path: Path) -> None:
    run = Run(tiny(**ON, time_limit_s=1e6), tmp_path)

    def starve() -> None:
        if run.learner.updates < rollouts // 2:
            _take_time(0.01)
        elif how == "stop":
            run.stop.reason = "stopped by a test"
        else:
            run.stop.deadline = time.monotonic()

    _asking(run, rollouts + 1, starve)
    assert run.run() == ("stopped by a test" if how == "stop" else "time_limit_s = 1e+06 reached")
    assert checkpoint.load_latest(tmp_path).step == rollouts // 2 * STEPS and not _alive()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (FleetError("gone"), FleetError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemory),
        (SystemExit(3), SystemExit),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_error_in_the_thread_ends_the_run_after_a_checkpoint(
    error: BaseException, raised: type[BaseException], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tiny(**ON), tmp_path)
    _asking(run, 7, lambda: _fail(1, error)(1))
    with pytest.raises(raised) as caught:
        run.run()
    names = [
        frame.name for frame in traceback.extract_tb((caught.value.__cause__ or caught.value).__traceback__)
    ]
    assert "_make" in names and "_agreed" in names, "both threads' frames"
    assert run.learner.updates == 3 and checkpoint.load_latest(tmp_path).step == 3 * STEPS
    assert "then the run ended by an error" in capsys.readouterr().out and not _alive()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FleetError("of the loop")], ids=repr)
def test_an_error_of_the_loop_leaves_no_thread(error: BaseException, tmp_path: Path) -> None:
    run = Run(tiny(**ON), tmp_path, on_row=lambda row: _fail(1, error)(1))
    with pytest.raises(type(error)):
        run.run()
    assert not _alive()


class _Slow(LocalPublisher):
    def publish(self, policy: torch.nn.Module, version: int) -> None:
        _take_time(0.05)
        super().publish(policy, version)


def test_beside_a_slow_publisher_every_rollout_is_learned_from_in_order(tmp_path: Path) -> None:
    run = Run(tiny(**ON), tmp_path, publisher=_Slow())
    batches: list[Any] = []
    launch = run.learner.launch

    def keep(batch: Batch, steps: int | None = None) -> None:
        batches.append(batch.streams)
        launch(batch, steps)

    run.learner.launch = keep  # type: ignore[method-assign]
    run.run(until=9)
    learned: dict[int, list[int]] = defaultdict(list)
    for pieces in batches:
        for piece in pieces:
            learned[piece.first_stream].append(piece.sequence_number)
    assert all(numbers == list(range(len(numbers))) for numbers in learned.values())
    assert run.sink.rows[-1]["rtrl/trace_breaks"] == 0
    assert max(row["lag/policy_version_max"] for row in run.sink.rows) >= 1, "a batch was ahead"


def test_without_streams_a_checkpoint_is_gone_on_with_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(tiny(**ON), tmp_path).run(until=3)
    names = {name.partition("/")[0] for name in checkpoint.load_latest(tmp_path).tensors}
    assert not names & {"streams", "waiting", "traces"}
    resumed = Run(tiny(**ON), tmp_path, resume=True)
    assert "new episodes begin, with traces of zero" in capsys.readouterr().out
    resumed.run(until=6)
    assert resumed.learner.updates == 6 and resumed.fleet.counters.actor_restarts == 0


def test_a_run_without_lag_learns_the_same_to_the_bit(tmp_path: Path) -> None:
    """Weights are published once, so that both arms act alike; then the thread changes nothing."""
    arms: dict[str, Config] = {"on": tiny(**ON), "off": tiny(runtime="ray", prefetch="off")}
    saved = {}
    for name, settings in arms.items():
        run = Run(settings, tmp_path / name)
        run.loop._publisher.publish = lambda policy, version: None  # type: ignore[method-assign]
        run.run(until=8)
        saved[name] = run.saved()
    assert different(saved["on"], saved["off"]) == []
