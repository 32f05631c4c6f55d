"""Any environment registered with Gymnasium that has discrete actions, by its own id.

`CartPole-v1`, or `module:Id-v0` to import the module that registers it first. The slots are
stepped one after the other (SyncVectorEnv), each with a seed of its own.

Observations: a Box of uint8 stays uint8, and an image with its channels last is turned to channels
first; any other Box becomes float32; a Discrete observation becomes a float32 one-hot.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from configs.schema import EnvConfig
from envs.spec import EnvError, EnvSpec, VecStep, check_actions
from envs.streams import distinct_seeds

_CHANNELS = (1, 3, 4)


class GymVecEnv:
    """E copies of one Gymnasium environment."""

    def __init__(self, env_id: str, num_envs: int) -> None:
        """Raises EnvError for spaces a policy cannot use, and for an env that fails to start."""
        one = _make_one(env_id)
        try:
            actions, observations = one.action_space, one.observation_space
        finally:
            one.close()
        if not isinstance(actions, Discrete):
            raise EnvError(f"env.id = {env_id!r} has the actions {actions}; only Discrete can be used")
        self._encode, shape, dtype = _encoder(env_id, observations)
        self._first_action = int(actions.start)
        self.num_envs = num_envs
        self.spec = EnvSpec(
            id=env_id,
            observation_shape=shape,
            observation_dtype=dtype,
            num_actions=int(actions.n),
            levels=(env_id,) * num_envs,
        )
        self._envs = SyncVectorEnv(
            [lambda: _make_one(env_id)] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP
        )

    def reset(self, seed: int) -> NDArray[Any]:
        observation, _ = self._envs.reset(seed=distinct_seeds(seed, self.num_envs).tolist())
        return self._encode(observation)

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        """Raises ValueError for a wrong shape or an action outside [0, num_actions)."""
        check_actions(self.spec, self.num_envs, actions)
        observation, reward, terminated, truncated, _ = self._envs.step(actions + self._first_action)
        # A time limit may mark a terminal observation too; the value of a terminal one is known.
        truncated = truncated & ~terminated
        return VecStep(
            observation=self._encode(observation),
            reward=reward.astype(np.float32),
            terminated=terminated.copy(),
            truncated=truncated,
            game_over=terminated | truncated,
        )

    def close(self) -> None:
        self._envs.close()


def _make_one(env_id: str) -> gymnasium.Env[Any, Any]:
    try:
        return gymnasium.make(env_id, disable_env_checker=True)
    except (gymnasium.error.Error, ImportError) as error:
        raise EnvError(f"env.id = {env_id!r} cannot be made: {error}") from error


def _encoder(
    env_id: str, space: gymnasium.Space[Any]
) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], tuple[int, ...], str]:
    """What turns a batch of raw observations into fresh arrays of ours; their shape and dtype."""
    if isinstance(space, Discrete):
        n, start = int(space.n), int(space.start)
        identity = np.eye(n, dtype=np.float32)
        return lambda batch: identity[batch - start], (n,), "float32"
    if not isinstance(space, Box):
        raise EnvError(
            f"env.id = {env_id!r} observes {space}; only Box and Discrete can be used: "
            "wrap the environment (gymnasium.wrappers.FlattenObservation) and register the wrapped one"
        )
    shape = space.shape
    if space.dtype != np.uint8:
        return lambda batch: batch.astype(np.float32), shape, "float32"
    if len(shape) == 2:
        return lambda batch: batch[:, None].copy(), (1, *shape), "uint8"
    if len(shape) == 3 and shape[-1] in _CHANNELS and shape[0] not in _CHANNELS:
        turned = (shape[2], shape[0], shape[1])
        return lambda batch: np.ascontiguousarray(np.moveaxis(batch, -1, 1)), turned, "uint8"
    return lambda batch: batch.copy(), shape, "uint8"


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    """All registered ids, after the import of the module that the id may name."""
    module, colon, _ = config.id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise EnvError(
                f"env.id = {config.id!r}: the module {module!r} cannot be imported ({error}); "
                "install it, or put its folder on PYTHONPATH"
            ) from error
    registered = tuple(cast("dict[str, Any]", gymnasium.registry))
    return (*registered, *(f"{module}:{env_id}" for env_id in registered if colon))


def make(config: EnvConfig, actor_id: int) -> GymVecEnv:
    return GymVecEnv(config.id, config.num_envs)
