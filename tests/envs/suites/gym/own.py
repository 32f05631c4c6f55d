"""An environment of given spaces, as a user might write one, registered for a test."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Space

_numbers = itertools.count()


class Own(gymnasium.Env[Any, Any]):
    """Episodes of `length` steps. `show` makes the observations, `arrive` changes what a step returns."""

    def __init__(
        self,
        observation: Any = None,
        action: Any = None,
        length: int = 7,
        show: Callable[[Own], Any] | None = None,
        arrive: Callable[[Own, tuple[Any, ...]], Any] = lambda env, arrived: arrived,
    ) -> None:
        self.observation_space = Box(-1.0, 1.0, (3,)) if observation is None else observation
        self.action_space = Discrete(2) if action is None else action
        self.length, self.show, self.arrive = length, show, arrive
        self.played: list[Any] = []
        self.shown: list[Any] = []
        self.count = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        if isinstance(self.observation_space, Space):
            self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.count = 0
        return self._look(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is no action of {self.action_space}"
        self.played.append(action)
        self.count += 1
        return self.arrive(self, (self._look(), 1.0, self.count == self.length, False, {}))

    def _look(self) -> Any:
        self.shown.append(self.show(self) if self.show else self.observation_space.sample())
        return self.shown[-1]


def register(**options: Any) -> str:
    """The id of a new environment, whose constructor gets `options`."""
    env_id = f"Own{next(_numbers)}-v0"
    gymnasium.register(env_id, Own, kwargs=options)
    return env_id


BYTES: dict[str, Any] = {"low": 0, "high": 255, "dtype": np.uint8}
