"""Who fails how often, and what follows: when a restart may be, which nodes are avoided, when it is over.

Three rules, none of which lets one actor or one node end a run:

    back-off   an actor's first failure in an hour costs no time, the next ones 1, 2, 4, ... 300 seconds:
               one actor fails 21 times an hour at most
    nodes      where actors fail NODE_FAILURES times with no rollout from there between, none is placed for
               AVOID_S, as long as there is another node; then it has one chance, and so on
    the end    when all actors keep failing (`max_consecutive_failures` each, no rollout between), as when the
               environment is broken; or when together they fail more often than
               `max_failures_per_actor_hour`, which no progress is worth

Time is given by the caller, in seconds of one monotonic clock. To be lost with a node is no failure.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Collection

from configs.schema import RayConfig

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 300.0
NODE_FAILURES = 3
AVOID_S = 600.0
HOUR_S = 3600.0


class Health:
    """The books on the failures of `num_actors` actors."""

    def __init__(self, limits: RayConfig, num_actors: int) -> None:
        self._limits = limits
        self._num_actors = num_actors
        self.in_a_row: Counter[int] = Counter()
        """Failures of each actor since its last rollout."""
        self._on_node: Counter[str] = Counter()
        """Failures on each node since the last rollout from there."""
        self._avoided_until: dict[str, float] = {}
        self._recent: defaultdict[int, deque[float]] = defaultdict(deque)
        """When each actor failed, for an hour."""

    def resize(self, num_actors: int) -> None:
        self._num_actors = num_actors
        for actor_id in [one for one in self.in_a_row if one >= num_actors]:
            del self.in_a_row[actor_id]
            self._recent.pop(actor_id, None)

    def delivered(self, actor_id: int, node_id: str) -> None:
        self.in_a_row[actor_id] = 0
        self._on_node[node_id] = 0

    def failed(self, actor_id: int, node_id: str | None, now: float, *, unfit: bool = False) -> float:
        """Notes a failure, on a node if it got that far. Returns how long the restart has to wait.

        `unfit`: no actor can run on that node, which is avoided for good.
        """
        self.in_a_row[actor_id] += 1
        self._recent[actor_id].append(now)
        if node_id is not None:
            self._on_node[node_id] += 1
            if unfit or self._on_node[node_id] >= NODE_FAILURES:
                self._avoided_until[node_id] = math.inf if unfit else now + AVOID_S
        repeats = self._last_hour(actor_id, now) - 2
        return min(FIRST_DELAY_S * 2.0**repeats, LONGEST_DELAY_S) if repeats >= 0 else 0.0

    def _last_hour(self, actor_id: int, now: float) -> int:
        times = self._recent[actor_id]
        while times and now - times[0] > HOUR_S:
            times.popleft()
        return len(times)

    def avoided(self, nodes: Collection[str], now: float) -> frozenset[str]:
        """Those of `nodes` where nothing is placed now: none, if it were all."""
        found = {node for node in nodes if self._avoided_until.get(node, now) > now}
        return frozenset(found) if len(found) < len(nodes) else frozenset()

    def is_unfit(self, node_id: str) -> bool:
        return self._avoided_until.get(node_id) == math.inf

    def verdict(self, now: float) -> str | None:
        """Why the run has failed; None while it has not."""
        limit = self._limits.max_consecutive_failures
        if all(self.in_a_row[actor_id] >= limit for actor_id in range(self._num_actors)):
            return (
                f"every actor failed {limit} times in a row (ray.max_consecutive_failures) without a rollout "
                "between"
            )
        rate = self._limits.max_failures_per_actor_hour
        failures = sum(self._last_hour(actor_id, now) for actor_id in range(self._num_actors))
        if failures > rate * self._num_actors:
            return (
                f"the actors failed {failures} times within an hour, more than "
                f"ray.max_failures_per_actor_hour = {rate:g} for each of {self._num_actors}"
            )
        return None
