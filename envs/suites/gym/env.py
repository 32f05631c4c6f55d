"""Any environment registered with Gymnasium, by its own id.

`CartPole-v1`, or `module:Id-v0` to import the module that registers it first. The slots are
stepped one after the other (SyncVectorEnv), each with a seed of its own. What becomes of observations and
actions: gym_spaces.py. Suites of such environments (popgym.py, minigrid.py, ...) share this module.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from configs.schema import EnvConfig
from envs.guard import close_env
from envs.spec import EnvError, EnvSpec, Observation, VecStep, check_actions
from envs.suites.gym.pictures import as_picture
from envs.suites.gym.spaces import decode_actions, encode_observations
from envs.suites.streams import distinct_seeds


class GymVecEnv:
    """E copies of one Gymnasium environment."""

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        make_one: Callable[[], gymnasium.Env[Any, Any]],
        frames_per_step: int = 1,
    ) -> None:
        """`env_id` is the name of it in messages and results, `make_one` builds one slot.

        Raises EnvError for spaces a policy cannot use, and whatever `make_one` raises.
        """
        one = make_one()
        try:
            actions, observations = one.action_space, one.observation_space
        finally:
            close_env(env_id, one)
        self._actions = decode_actions(env_id, actions)
        self._encode, shape, dtype = encode_observations(env_id, observations)
        self.num_envs = num_envs
        self.spec = EnvSpec(
            id=env_id,
            observation_shape=shape,
            observation_dtype=dtype,
            num_actions=self._actions.number,
            continuous_actions=self._actions.continuous,
            frames_per_step=frames_per_step,
            levels=(env_id,) * num_envs,
        )
        self._envs = SyncVectorEnv([make_one] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP)

    def reset(self, seed: int) -> Observation:
        observation, _ = self._envs.reset(seed=distinct_seeds(seed, self.num_envs).tolist())
        return self._encode(observation)

    def step(self, actions: NDArray[Any]) -> VecStep:
        """Raises ValueError for actions of a wrong shape or out of range."""
        check_actions(self.spec, self.num_envs, actions)
        observation, reward, terminated, truncated, _ = self._envs.step(self._actions.decode(actions))
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
        for env in self._envs.envs:  # each by itself: one that raises leaves none open
            close_env(self.spec.id, env)
        self._envs.closed = True


class DrawnGymVecEnv(GymVecEnv):
    """Of an environment with the render mode `rgb_array`."""

    def draw(self) -> NDArray[np.uint8]:
        try:
            pictures = self._envs.render()
        except Exception as error:  # renderers raise whatever their graphics library does
            raise EnvError(
                f"env.id = {self.spec.id!r} cannot draw itself here: {error}\nAdd --observation to draw what "
                "the policy sees. (MuJoCo on a machine without a display: set MUJOCO_GL=egl)"
            ) from error
        return as_picture(self.spec.id, None if pictures is None else pictures[0])


def make_drawing(env_id: str, make_one: Callable[..., gymnasium.Env[Any, Any]]) -> DrawnGymVecEnv | None:
    """One slot that draws itself; None where the environment has no pictures of itself.

    `make_one` takes the option `render_mode`.
    """
    plain = make_one()
    modes = plain.metadata.get("render_modes") or ()
    close_env(env_id, plain)
    if "rgb_array" not in modes:
        return None
    return DrawnGymVecEnv(env_id, 1, partial(make_one, render_mode="rgb_array"))


def make_registered(env_id: str, gym_id: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """The env that Gymnasium knows as `gym_id`, made with `options`.

    Raises EnvError, which calls it `env_id`, where it cannot be made.
    """
    try:
        return gymnasium.make(gym_id, disable_env_checker=True, **options)
    except (gymnasium.error.Error, ImportError) as error:
        raise EnvError(f"env.id = {env_id!r} cannot be made: {error}") from error


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
    return GymVecEnv(config.id, config.num_envs, partial(make_registered, config.id, config.id))


def make_drawn(config: EnvConfig) -> DrawnGymVecEnv | None:
    return make_drawing(config.id, partial(make_registered, config.id, config.id))
