"""Processes that are stopped (SIGSTOP), on real Ray: told by name, borne, at last replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.fleet.cluster import ray_session
from configs.schema import RayConfig
from tests.actors.fleet.fleets import live_workers, lives, running, small, take, take_until
from tests.integration.cli import wait_until

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_session(RayConfig(object_store_mib=100), num_cpus=2):
        yield


class Said:
    """What was printed since the test began."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd, self._text = capfd, ""

    def __call__(self, *words: str) -> list[str]:
        self._text += self._capfd.readouterr().out
        return [line for line in self._text.splitlines() if all(word in line for word in words)]

    def forget(self) -> None:
        self()
        self._text = ""


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Said:
    return Said(capfd)


def _stopped(fleet: Any, actor_id: int) -> int:
    """Stops an actor that works, and returns its process."""
    while not any(rollout.actor_id == actor_id for rollout in take(fleet, 1)):
        pass
    pid = fleet.worker_pids()[actor_id]
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_a_stopped_actor_is_told_by_name_and_the_others_go_on_and_so_does_it(said: Said) -> None:
    with running(small(stall_report_s=2.0)) as fleet:
        pid = _stopped(fleet, 1)
        said.forget()  # a busy machine stalls them by itself
        before = take_until(fleet, lambda: bool(said("actor 1", f"process {pid} (ray::R", "is stopped")))
        (told,) = said("actor 1 stalls on")
        assert "no rollout of the streams 2 to 3 of counting/7 for" in told, told
        others = take(fleet, 20)
        assert {rollout.actor_id for rollout in others} == {0}, "nothing waits for it"
        assert said("actor 1 stalls on") == [told], "once"
        os.kill(pid, signal.SIGCONT)
        after = take_until(fleet, lambda: bool(said("actor 1 goes on, after")))
        after += take_until(fleet, lambda: any(r.actor_id == 1 for r in after + take(fleet, 1)))
        assert fleet.counters.actor_restarts == 0
    numbers = lives(before + others + after)
    assert len(numbers) == 2, "both lived once"


def test_what_it_does_is_told_later_where_its_node_is_slow_to_say_so(
    said: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import ray

    from actors.fleet import nodes, waiting

    look, path = nodes._doings, tmp_path / "said"

    def slow(pid: int) -> str:
        wait_until(path.exists)
        return look(pid)

    monkeypatch.setattr(waiting, "doings_on", lambda home: ray.remote(num_cpus=0)(slow).remote(home.pid))
    with running(small(stall_report_s=2.0)) as fleet:
        pid = _stopped(fleet, 1)
        said.forget()
        take_until(fleet, lambda: bool(said("actor 1 stalls on")))
        (told,) = said("actor 1 stalls on")
        assert "its node has not said yet what its processes do. The others go on" in told, told
        path.touch()
        take_until(fleet, lambda: bool(said(f"actor 1: process {pid} (ray::R", "is stopped")))
        take(fleet, 20)
        assert len(said("actor 1:")) == 1 and said("actor 1 stalls on") == [told], "once each"
        os.kill(pid, signal.SIGCONT)
        take_until(fleet, lambda: bool(said("actor 1 goes on, after")))


def test_one_that_stays_stopped_is_replaced(said: Said) -> None:
    """Its process ends, though it answers no call, and its CPU is the new one's."""
    with running(small(rollout_timeout_s=10.0, stall_report_s=1.0)) as fleet:
        pid = _stopped(fleet, 0)
        take_until(fleet, lambda: fleet.counters.actor_restarts == 1)
        assert said("actor 0 stalls") and said("no rollout within ray.rollout_timeout_s = 10")
        take_until(fleet, lambda: bool(said("actor 0 is placed on")))
        take_until(fleet, lambda: fleet.worker_pids()[0] != pid and len(live_workers()) == 2)
        while not any(rollout.actor_id == 0 for rollout in take(fleet, 1)):
            pass
        assert fleet.counters.actor_restarts == 1


def test_a_learner_that_starves_says_why_and_when_it_is_over(said: Said) -> None:
    """A batch that needs the stopped one: the other's rollouts are taken, and no second time."""
    with running(small(stall_report_s=2.0)) as fleet:
        pid = _stopped(fleet, 1)
        why = ("actor 1 owes a rollout for up to", "others wait for these")  # once the other's are there
        while not all(words in fleet.counters.starving for words in why):
            fleet.next_rollout(0.5, skip={0})
        assert said("the learner starves: no rollout for") and fleet.counters.starved_s > 2.0
        os.kill(pid, signal.SIGCONT)
        while fleet.next_rollout(0.5, skip={0}) is None:
            pass
        starved = fleet.counters.starved_s
        assert said("rollouts come again, after") and not fleet.counters.starving
        assert fleet.next_rollout(0.5, skip={0, 1}) is None and fleet.counters.starved_s == starved
        assert fleet.counters.actor_restarts == 0


def test_all_stopped_at_once_are_waited_for(said: Said) -> None:
    with running(small(stall_report_s=2.0)) as fleet:
        pids = [_stopped(fleet, actor_id) for actor_id in (0, 1)]
        take_until(fleet, lambda: bool(fleet.counters.starving))
        assert "actors 0, 1 owe a rollout" in fleet.counters.starving
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert {rollout.actor_id for rollout in take(fleet, 12)} == {0, 1}
        assert fleet.counters.actor_restarts == 0


def test_an_engine_that_is_stopped_is_named_and_its_actor_goes_on_with_it(said: Said) -> None:
    with running(small("tests.engine_env:Engine-v0", stall_report_s=2.0)) as fleet:
        while not any(rollout.actor_id == 1 for rollout in take(fleet, 1)):
            pass
        engine = psutil.Process(fleet.worker_pids()[1]).children()[0]
        assert engine.name() == "cat"
        engine.suspend()  # SIGSTOP
        take_until(fleet, lambda: bool(said("actor 1", f"process {engine.pid} (cat) is stopped")))
        assert {rollout.actor_id for rollout in take(fleet, 8)} == {0}
        engine.resume()
        take_until(fleet, lambda: bool(said("actor 1 goes on, after")))
        assert fleet.counters.actor_restarts == 0
