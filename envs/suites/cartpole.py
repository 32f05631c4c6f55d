"""CartPole, all slots at once: `cartpole/full`, and `cartpole/masked` without the velocities.

The physics is that of Gymnasium's CartPole-v1 (Barto, Sutton and Anderson 1983): Euler steps of
0.02 s, force of 10 N to the left (action 0) or right (1), reward 1 a step, the final one included.
Termination: the cart leaves [-2.4, 2.4] m or the pole leaves [-12, 12] degrees. Truncation: 500 steps.

Masked, one observation does not tell the velocities: a policy has to remember where it was before.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig
from envs.spec import EnvSpec
from envs.suites.memory.array_env import ArrayEnv

GRAVITY = 9.8
"""m / s^2"""
POLE_MASS = 0.1
"""kg"""
TOTAL_MASS = 1.0 + POLE_MASS
"""kg, cart and pole"""
POLE_HALF_LENGTH = 0.5
"""m"""
FORCE = 10.0
"""N"""
TIME_STEP = 0.02
"""s"""
MAX_POSITION = 2.4
"""m"""
MAX_ANGLE = 12 * 2 * math.pi / 360
"""rad"""
MAX_STEPS = 500

IDS = ("cartpole/full", "cartpole/masked")
_SHOWN = {"cartpole/full": slice(None), "cartpole/masked": slice(0, None, 2)}


def physics(state: NDArray[np.float64], actions: NDArray[np.int64]) -> NDArray[np.float64]:
    """The state [E, 4] (position, velocity, angle, angular velocity) 0.02 s later."""
    position, velocity, angle, spin = state.T
    force = np.where(actions == 1, FORCE, -FORCE)
    cos, sin = np.cos(angle), np.sin(angle)
    push = (force + POLE_MASS * POLE_HALF_LENGTH * np.square(spin) * sin) / TOTAL_MASS
    spin_rate = (GRAVITY * sin - cos * push) / (
        POLE_HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * np.square(cos) / TOTAL_MASS)
    )
    acceleration = push - POLE_MASS * POLE_HALF_LENGTH * spin_rate * cos / TOTAL_MASS
    return np.stack(
        [
            position + TIME_STEP * velocity,
            velocity + TIME_STEP * acceleration,
            angle + TIME_STEP * spin,
            spin + TIME_STEP * spin_rate,
        ],
        axis=1,
    )


class CartPole(ArrayEnv):
    """Observation: float32 [4] (position m, velocity m/s, angle rad, rad/s), or [2] (position, angle)."""

    STATE = ("_physics", "_steps")

    def __init__(self, env_id: str, num_envs: int) -> None:
        self._shown = _SHOWN[env_id]
        spec = EnvSpec(
            id=env_id,
            observation_shape=(len(range(4)[self._shown]),),
            observation_dtype="float32",
            num_actions=2,
            levels=(env_id,) * num_envs,
        )
        super().__init__(spec, num_envs)
        self._physics = np.zeros((num_envs, 4))
        self._steps = np.zeros(num_envs, np.int64)

    def _start(self, slots: NDArray[np.intp]) -> None:
        self._steps[slots] = 0
        for column in range(4):
            self._physics[slots, column] = -0.05 + 0.1 * self._random.uniform(slots)

    def _advance(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        self._physics = physics(self._physics, actions)
        self._steps += 1
        terminated = (np.abs(self._physics[:, 0]) > MAX_POSITION) | (np.abs(self._physics[:, 2]) > MAX_ANGLE)
        return np.ones(self.num_envs, np.float32), terminated, self._steps >= MAX_STEPS

    def _observe(self) -> NDArray[Any]:
        return self._physics[:, self._shown].astype(np.float32)


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return IDS


def make(config: EnvConfig, first_stream: int) -> CartPole:
    return CartPole(config.id, config.num_envs)
