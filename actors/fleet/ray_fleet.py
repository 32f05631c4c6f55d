"""The actors in Ray as one source of rollouts.

Back-pressure: an actor works on at most `rollouts_in_flight` requests, finished ones that nobody
took included, so a slow learner slows the actors instead of filling memory.

What becomes of an actor that fails, hangs or is lost is in crew.py. The run has failed when all fail too
often (health.py), or when nothing comes from any actor for `start_timeout_s` while some wait for a CPU or
keep failing (waiting.py).
"""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import ray
from numpy.typing import NDArray

from actors.fleet.crew import Crew
from actors.fleet.elastic import Size
from actors.fleet.fleet import FleetCounters, incarnations
from actors.fleet.slot import known, standing
from actors.fleet.waiting import Starving
from actors.fleet.worker import RolloutWorker
from actors.rollout import Rollout
from actors.weights import WeightSource
from configs.learners import WHOLE, Part
from configs.schema import Config

CARE_S = 0.5
"""Between two looks after all actors, while rollouts come."""


SIZE_S = 2.0
"""Between two looks at orders, and at the cluster where their number follows it."""


class RayFleet:
    """One Ray worker an actor. Ray must be initialised; `source` must be picklable."""

    def __init__(
        self,
        config: Config,
        source: WeightSource,
        *,
        start_step: int = 0,
        part: Part = WHOLE,
        worker_class: Any = RolloutWorker,
    ) -> None:
        """As `make_fleet`. `worker_class`: what benchmarks put in the place of actors."""
        self.counters = FleetCounters()
        lives, first_stream = incarnations(config, start_step, part), part.number * config.num_streams
        self._crew = Crew(config, source, lives, first_stream, worker_class, self.counters)
        self._starving = Starving(config.ray, self.counters)
        self._size = Size(config, part.of)
        self._next_care = self._next_size = 0.0

    def obey(self, run_dir: Path) -> None:
        self._size.obey(run_dir)

    def resize(self, number: int) -> None:
        """As many actors from now on, of the same streams. Raises ConfigError for more than streams."""
        self._crew.resize(number)

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        deadline = time.monotonic() + timeout_s
        crew = self._crew
        while True:
            if time.monotonic() >= self._next_care:  # however many come: fast actors hide no hanging one
                crew.look_after_all()
                self._next_care = time.monotonic() + CARE_S
            if time.monotonic() >= self._next_size:
                self._next_size = time.monotonic() + SIZE_S
                number = self._size.wanted(crew.slots, bool(self.counters.starving), time.monotonic())
                if number is not None:
                    self.resize(number)
            rest = max(0.0, min(deadline - time.monotonic(), CARE_S))
            reference = crew.requests.next_finished(known(crew.slots, skip), rest)
            if reference is not None:
                self.counters.rollouts_ready = crew.requests.ready
                rollout = crew.take(reference)
                if rollout is not None:
                    self._starving.fed(time.monotonic())
                    return rollout
            if time.monotonic() >= deadline:
                self._starving.unfed(crew.slots, crew.health.in_a_row, crew.lost_nodes, time.monotonic())
                return None

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that are up now, for diagnosis and fault tests."""
        return [found.pid for found in ray.get([life.identity for life in self._crew.lives()])]

    def unrolls(self) -> dict[str, int]:
        return self._crew.unrolls()

    def standing(self) -> list[dict[str, Any]]:
        return standing(self._crew.slots)

    def state_dict(self) -> dict[str, NDArray[Any]] | None:
        return None  # the streams live in other processes; a resumed run starts new incarnations

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        raise ValueError("a Ray fleet cannot take up streams; it starts new incarnations")

    def close(self) -> None:
        self._crew.close()
