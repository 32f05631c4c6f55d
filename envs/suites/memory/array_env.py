"""Base of the environments that step all their slots by array operations.

It holds the rule at episode ends once: after an end the given action is ignored, the slot starts
anew, and reward and flags of that step are zero. It also holds writing down and reading back the
state. What an environment adds is how a slot starts, moves on, and looks.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.spec import EnvSpec, VecStep, check_actions
from envs.suites.streams import RandomStreams


class ArrayEnv:
    """E slots as arrays of length E. A subclass allots its state arrays before the first reset."""

    STATE: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes (arrays with leading dimension E) that make up a slot's state."""

    def __init__(self, spec: EnvSpec, num_envs: int) -> None:
        self.spec = spec
        self.num_envs = num_envs
        self._random = RandomStreams(0, num_envs)
        self._ended = np.zeros(num_envs, np.bool_)
        self._all_slots = np.arange(num_envs)
        self._ready = False

    def _start(self, slots: NDArray[np.intp]) -> None:
        """Puts the slots with these indices at the first observation of a new episode."""
        raise NotImplementedError

    def _advance(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        """Moves every slot on by one step: fresh arrays (reward, terminated, truncated), each [E].

        Slots whose episode had ended are moved too, and then started anew: what is returned for
        them is overwritten, but must not fail.
        """
        raise NotImplementedError

    def _observe(self) -> NDArray[Any]:
        """Fresh observations [E, ...] of the present state."""
        raise NotImplementedError

    def _restart(self) -> None:
        """After all slots have started at a reset: what holds for first episodes only."""

    def reset(self, seed: int) -> NDArray[Any]:
        self._random = RandomStreams(seed, self.num_envs)
        self._ended[:] = False
        self._ready = True
        self._start(self._all_slots)
        self._restart()
        return self._observe()

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        """Raises ValueError for a wrong shape or an action outside [0, num_actions)."""
        if not self._ready:
            raise ValueError(f"{self.spec.id}: call reset(seed) before step")
        check_actions(self.spec, self.num_envs, actions)
        fresh = self._ended
        reward, terminated, truncated = self._advance(actions)
        if fresh.any():
            self._start(np.flatnonzero(fresh))
            reward[fresh] = 0.0
            terminated &= ~fresh
            truncated &= ~fresh
        truncated &= ~terminated
        self._ended = terminated | truncated
        return VecStep(self._observe(), reward, terminated, truncated, self._game_over(terminated, truncated))

    def _game_over(self, terminated: NDArray[np.bool_], truncated: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return terminated | truncated

    def close(self) -> None:
        """Nothing to give back."""

    def _state_names(self) -> dict[str, tuple[object, str]]:
        """Key in the state dictionary -> the object and attribute that hold the array."""
        names: dict[str, tuple[object, str]] = {name.lstrip("_"): (self, name) for name in self.STATE}
        return names | {"ended": (self, "_ended"), "random": (self._random, "state")}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays that decide what comes next, the state of the randomness included."""
        return {key: getattr(owner, name).copy() for key, (owner, name) in self._state_names().items()}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Raises ValueError if `state` is not of this environment with this number of slots."""
        names = self._state_names()
        if state.keys() != names.keys():
            raise ValueError(
                f"{self.spec.id}: the state has {sorted(state)}, expected {sorted(names)}: "
                "it was written by another environment"
            )
        for key, (owner, name) in names.items():
            present, loaded = getattr(owner, name), state[key]
            if present.shape != loaded.shape or present.dtype != loaded.dtype:
                raise ValueError(
                    f"{self.spec.id}: state {key!r} is {loaded.dtype}{list(loaded.shape)}, expected "
                    f"{present.dtype}{list(present.shape)}: resume with the same env.num_envs and options"
                )
        for key, (owner, name) in names.items():
            setattr(owner, name, state[key].copy())
        self._ready = True
