"""How well the values of a policy foretold what came: their mean squared return error (MSRE).

    G_t = r_{t+1} + discounting r_{t+2} + ...        (V(x_t) - G_t)^2, its mean over the steps of all episodes

The return in hindsight of an episode that terminated is known to its end. Of one that was truncated what lies
beyond is not: its last steps are left out, as many as discounting takes to make that negligible. So Rafiee et
al. 2023 ("From eye-blinks to state construction", Adaptive Behavior 31(1)) measure predictions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

NEGLIGIBLE = 1e-4
"""Weight of what lies beyond a truncation, in the return of the last step that is counted."""


class ReturnError:
    """Episodes under way in some slots, and the errors of those that are over."""

    def __init__(self, slots: int, discounting: float, reward_scale: float) -> None:
        """reward_scale: of the rewards that the values were learned from; the error is in raw reward."""
        self._discounting, self._scale = discounting, reward_scale
        self._values: list[list[float]] = [[] for _ in range(slots)]
        self._rewards: list[list[float]] = [[] for _ in range(slots)]
        self._tail = math.inf if discounting == 1.0 else 0.0
        """Last steps of a truncated episode whose return is not known well enough."""
        if 0.0 < discounting < 1.0:
            self._tail = math.ceil(math.log(NEGLIGIBLE) / math.log(discounting)) - 1
        self.total, self.steps = 0.0, 0

    def add(self, slots: Iterable[int], values: Iterable[float], rewards: Iterable[float]) -> None:
        """One decision of each of `slots`: the value of what it saw, and the raw reward that came of it."""
        for slot, value, reward in zip(slots, values, rewards, strict=True):
            self._values[slot].append(value / self._scale)
            self._rewards[slot].append(reward)

    def end(self, slot: int, terminated: bool) -> None:
        """The episode in this slot is over; the next decision there begins another."""
        values, rewards = self._values[slot], self._rewards[slot]
        known = len(values) if terminated else len(values) - self._tail
        later = 0.0
        for t in range(len(values) - 1, -1, -1):
            later = rewards[t] + self._discounting * later
            if t < known:
                self.total += (values[t] - later) ** 2
                self.steps += 1
        values.clear()
        rewards.clear()

    @property
    def mean(self) -> float | None:
        """In squared reward; None if no return is known."""
        return self.total / self.steps if self.steps else None
