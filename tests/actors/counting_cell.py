"""A policy whose recurrent state counts the observations of the episode, so that every hand-over shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.inference import ArrayState, Decision

NUM_ACTIONS = 3


class CountingCell:
    """Implements `actors.inference.Inference`. The state is how many observations the episode had before
    this one; the logits carry the count that the observation made."""

    def __init__(self, version: int = 0) -> None:
        self.version = version
        self.refreshed = 0
        self.counts: list[NDArray[np.float32]] = []
        self.actions: list[NDArray[np.int64]] = []
        self.asked: list[tuple[NDArray[np.float32], NDArray[np.float32]] | None] = []

    def open(self, slots: int) -> int:
        self.counts.append(np.zeros(slots, np.float32))
        self.actions.append(np.zeros(slots, np.int64))
        self.asked.append(None)
        return len(self.counts) - 1

    def refresh(self) -> None:
        self.refreshed += 1

    def submit(
        self, group: int, observation: NDArray[Any], reward: NDArray[np.float32], reset: NDArray[np.bool_]
    ) -> None:
        before = np.where(reset, 0.0, self.counts[group]).astype(np.float32)
        assert (before == observation[:, 0]).all(), "the state has lost count of the episode's steps"
        assert self.asked[group] is None, "submitted twice"
        self.asked[group] = before, observation[:, 2].copy()

    def take(self, group: int) -> Decision:
        asked = self.asked[group]
        assert asked is not None, "taken twice"
        before, slot = asked
        self.asked[group], self.counts[group] = None, before + 1.0
        logits = np.repeat(before[:, None] + 1.0, NUM_ACTIONS, axis=1)
        action = self.actions[group] = ((before + slot) % NUM_ACTIONS).astype(np.int64)
        return Decision(action, action, logits, before, self.version)

    def state(self, group: int) -> ArrayState:
        return (self.counts[group][:, None].copy(),)

    def previous_action(self, group: int) -> NDArray[Any]:
        return self.actions[group].copy()

    def keep(self, group: int, slots: NDArray[np.bool_]) -> None:
        self.counts[group], self.actions[group] = self.counts[group][slots], self.actions[group][slots]

    def state_dict(self, group: int) -> dict[str, NDArray[Any]]:
        return {"state/0": self.counts[group], "previous_action": self.actions[group]}

    def load_state_dict(self, group: int, state: dict[str, NDArray[Any]]) -> None:
        self.counts[group], self.actions[group] = state["state/0"].copy(), state["previous_action"].copy()
