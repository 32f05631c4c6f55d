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

    def initial_state(self, batch: int) -> ArrayState:
        return (np.zeros((batch, 1), np.float32),)

    def initial_action(self, batch: int) -> NDArray[Any]:
        return np.zeros(batch, np.int64)

    def refresh(self) -> None:
        self.refreshed += 1

    def step(
        self,
        observation: NDArray[Any],
        reward: NDArray[np.float32],
        reset: NDArray[np.bool_],
        state: ArrayState,
        previous_action: NDArray[np.int64],
    ) -> Decision:
        before = np.where(reset[:, None], 0.0, state[0]).astype(np.float32)
        assert (before[:, 0] == observation[:, 0]).all(), "the state has lost count of the episode's steps"
        logits = np.repeat(before + 1.0, NUM_ACTIONS, axis=1)
        action = ((before[:, 0] + observation[:, 2]) % NUM_ACTIONS).astype(np.int64)
        return Decision(action, action, logits, (before + 1.0,), self.version, before[:, 0])

    @property
    def randomness(self) -> NDArray[np.uint8]:
        return np.zeros(1, np.uint8)

    @randomness.setter
    def randomness(self, state: NDArray[np.uint8]) -> None:
        assert state.shape == (1,)
