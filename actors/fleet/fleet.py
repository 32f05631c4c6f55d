"""The actors as one source of rollouts, in this process or in Ray.

Failure: an actor that fails is replaced by a new one under a new incarnation, whose episodes, recurrent
state and (on the learner's side) traces start anew. A rollout exists only when it is whole, so no half
rollout is ever seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from actors.collect import Collector, check_acting, make_collector
from actors.rollout import Rollout
from actors.weights import WeightSource
from configs.learners import WHOLE, Part
from configs.schema import Config
from envs.spec import EnvError, EnvFaultError


class FleetError(RuntimeError):
    """The actors cannot go on. The message carries the last failure's own error."""


Fate: TypeAlias = Literal["asked", "arrived", "lost_calls", "lost_actors", "let_go", "missing"]


def no_unrolls() -> dict[Fate, int]:
    """Totals of unrolls: T steps of one stream each, so many a rollout as its actor has streams. What was
    asked for has arrived, was lost with a call or with its actor, was let go since the actors were scaled or
    placed anew, or is under way. `missing`: made before one that arrived, and did not; they are among those
    lost with calls."""
    return dict.fromkeys(("asked", "arrived", "lost_calls", "lost_actors", "let_go", "missing"), 0)


@dataclass(slots=True)
class FleetCounters:
    """Totals since the fleet started, but for what is said to be of now."""

    actors: int = 0
    """That carry the streams (now)."""
    actor_restarts: int = 0
    """Workers replaced, for whatever reason."""
    env_errors: int = 0
    """Of these: workers whose own code raised (an env or the policy), with the worker alive."""
    lost_calls: int = 0
    """Calls to actors that live, which were lost on the way and made again."""
    starved_s: float = 0.0
    """Seconds of waits, each longer than `ray.stall_report_s`, in which nothing came from any actor."""
    rollouts_ready: int = 0
    """Rollouts finished and not yet taken (now, not a total)."""
    starving: str = ""
    """Why nothing comes, while that lasts (now)."""


class Fleet(Protocol):
    counters: FleetCounters

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        """The next finished rollout, oldest request first; None if none came in time.

        `skip`: actors of whose every stream the learner has a rollout in hand. Theirs stay where they are,
        and so a fast actor waits for a slow one instead of running ahead.

        Raises FleetError when an actor failed too often in a row.
        """
        ...

    def state_dict(self) -> dict[str, NDArray[Any]] | None:
        """The streams' whole state, or None where it cannot be written down."""
        ...

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None: ...

    def obey(self, run_dir: Path) -> None:
        """From now on the orders count that lie there (configs/orders.py)."""
        ...

    def unrolls(self) -> dict[str, int]:
        """Those of `no_unrolls`, and `under_way`: asked for and nothing of these yet (now)."""
        ...

    def standing(self) -> list[dict[str, Any]]:
        """Each actor by number, state, process and node; also from another thread."""
        ...

    def close(self) -> None: ...


def incarnations(config: Config, start_step: int, part: Part = WHOLE) -> Iterator[int]:
    """Incarnation numbers without end: the same for the same seed, new after each resume. The first ones, as
    many as actors, are the same too into however many parts the run is cut. `config`: of the part."""
    rng = np.random.default_rng([config.seed, start_step])
    if part.of > 1:
        first = [int(rng.integers(2**63 - 1)) for _ in range(part.of * config.num_actors)]
        yield from first[part.number * config.num_actors : (part.number + 1) * config.num_actors]
        rng = rng.spawn(part.of)[part.number]
    while True:
        yield int(rng.integers(2**63 - 1))


class InlineFleet:
    """All actors in this process, one after the other: deterministic, without Ray.

    An env that fails, when it is made or later, is a FleetError: its streams cannot go on.
    """

    def __init__(
        self, config: Config, source: WeightSource, *, start_step: int = 0, part: Part = WHOLE
    ) -> None:
        lives, first_stream = incarnations(config, start_step, part), part.number * config.num_streams
        self.counters = FleetCounters(actors=config.num_actors)
        self._unrolls = no_unrolls()
        self._collectors: list[Collector] = []
        self._turn = 0
        for actor_id in range(config.num_actors):
            try:
                self._collectors.append(
                    make_collector(config, source, actor_id, next(lives), first_stream=first_stream)
                )
            except (EnvError, EnvFaultError) as error:
                self.close()
                raise FleetError(f"actor {actor_id}: {error}") from error

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None:
        while self._turn in skip:
            self._turn = (self._turn + 1) % len(self._collectors)
        actor_id = self._turn
        self._turn = (self._turn + 1) % len(self._collectors)
        try:
            rollout = self._collectors[actor_id].collect()
        except (EnvError, EnvFaultError) as error:
            self.counters.env_errors += 1
            raise FleetError(f"actor {actor_id}: {error}") from error
        self._unrolls["asked"] += rollout.num_streams
        self._unrolls["arrived"] += rollout.num_streams
        return rollout

    def unrolls(self) -> dict[str, int]:
        return {**self._unrolls, "under_way": 0}  # one that is made is taken

    def state_dict(self) -> dict[str, NDArray[Any]] | None:
        if not all(collector.resumable for collector in self._collectors):
            return None
        state: dict[str, NDArray[Any]] = {"turn": np.array(self._turn)}
        for index, collector in enumerate(self._collectors):
            state |= {f"{index}/{name}": array for name, array in collector.state_dict().items()}
        return state

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        self._turn = int(state["turn"])
        for index, collector in enumerate(self._collectors):
            prefix = f"{index}/"
            collector.load_state_dict(
                {name[len(prefix) :]: array for name, array in state.items() if name.startswith(prefix)}
            )

    def obey(self, run_dir: Path) -> None: ...  # `launch.py scale` refuses a run without Ray

    def standing(self) -> list[dict[str, Any]]:
        return []  # they are in this process

    def close(self) -> None:
        for collector in self._collectors:
            collector.close()


def make_fleet(config: Config, source: WeightSource, *, start_step: int = 0, part: Part = WHOLE) -> Fleet:
    """The fleet that `config.runtime` names. `start_step` is 0, or the step a run resumes from. `config`: of
    the `part` that these actors carry the streams of. Raises as `check_acting`."""
    check_acting(config)
    if config.runtime == "inline":
        return InlineFleet(config, source, start_step=start_step, part=part)
    from actors.fleet.ray_fleet import RayFleet  # the inline runtime works without Ray installed

    return RayFleet(config, source, start_step=start_step, part=part)
