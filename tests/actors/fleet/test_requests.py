"""Which of the rollouts that were asked for is handed out next, on real Ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from actors.fleet.cluster import ray_session
from configs.schema import RayConfig
from tests.integration.cli import PATIENCE_S

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_session(RayConfig(object_store_mib=100), num_cpus=1):
        yield


def _asked(*owners: int) -> tuple[Any, list[Any]]:
    """Requests that are done, oldest first, of these actors."""
    import ray

    from actors.fleet.requests import Requests

    @ray.remote(num_cpus=0)
    def made(owner: int) -> int:
        return owner

    requests, references = Requests(), [made.remote(owner) for owner in owners]
    ray.get(references, timeout=PATIENCE_S)  # small results: from here on known in this process, at any load
    for reference, owner in zip(references, owners, strict=True):
        requests.owner[reference] = owner
    return requests, references


def test_the_oldest_is_first_and_one_look_serves_all() -> None:
    requests, references = _asked(2, 0, 1)
    for left, reference in zip((2, 1, 0), references, strict=True):
        assert requests.next_finished((), PATIENCE_S) is reference
        del requests.owner[reference]
        assert requests.ready == left
    assert requests.next_finished((), 0.01) is None


def test_those_of_skipped_actors_stay_for_later() -> None:
    requests, (first, second, third) = _asked(0, 1, 0)
    assert requests.next_finished({0}, PATIENCE_S) is second
    del requests.owner[second]
    assert requests.next_finished({0, 1}, 0.01) is None
    assert requests.next_finished((), PATIENCE_S) is first
    del requests.owner[first]
    assert requests.next_finished({0}, 0.01) is None, "known to be done, and skipped now"
    assert requests.next_finished((), PATIENCE_S) is third


def test_one_of_an_actor_that_failed_meanwhile_is_not_handed_out() -> None:
    requests, (first, second, third) = _asked(0, 1, 0)
    assert requests.next_finished((), PATIENCE_S) is first
    del requests.owner[first], requests.owner[second]
    assert requests.next_finished((), PATIENCE_S) is third


@pytest.fixture
def gate() -> Iterator[Any]:
    """An actor whose call `passed` is done once `open` was called."""
    import ray

    @ray.remote(num_cpus=0)
    class Gate:
        def __init__(self) -> None:
            import asyncio

            self._open = asyncio.Event()

        async def passed(self) -> None:
            await self._open.wait()

        async def open(self) -> None:
            self._open.set()

    made: Any = Gate.remote()
    yield made
    ray.kill(made)


def test_one_that_is_not_done_is_waited_for(gate: Any) -> None:
    requests, (done,) = _asked(1)
    late = gate.passed.remote()
    requests.owner = {late: 0, done: 1}
    assert requests.next_finished((), PATIENCE_S) is done, "another actor's holds nothing up"
    del requests.owner[done]
    assert requests.next_finished((), 0.05) is None
    gate.open.remote()
    assert requests.next_finished((), PATIENCE_S) is late


def test_one_that_overtook_the_one_before_waits_for_it(gate: Any) -> None:
    """A stream's rollouts are learned from in the order in which they were made, or its trace is lost."""
    requests, (second, other) = _asked(0, 1)
    first = gate.passed.remote()
    requests.owner = {first: 0, second: 0, other: 1}
    assert requests.next_finished((), PATIENCE_S) is other
    del requests.owner[other]
    assert requests.next_finished((), 0.05) is None and requests.ready == 0
    gate.open.remote()
    for reference in (first, second):
        assert requests.next_finished((), PATIENCE_S) is reference
        del requests.owner[reference]
