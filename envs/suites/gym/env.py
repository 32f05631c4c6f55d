"""Any environment registered with Gymnasium, by its own id.

`CartPole-v1`, or `module:Id-v0` to import the module that registers it first. The slots are stepped one after
the other, each with a seed of its own. What becomes of observations and actions: spaces.py and actions.py.
Suites of such environments (popgym.py, minigrid.py, ...) share this module.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig
from envs.guard import close_env
from envs.spec import EnvError, EnvFaultError, EnvSpec, Observation, VecStep, check_actions
from envs.suites.gym.actions import decode_actions
from envs.suites.gym.leaves import describe
from envs.suites.gym.modules import attribute, hidden_folder, import_module, taken
from envs.suites.gym.pictures import as_picture
from envs.suites.gym.spaces import ObservationReader
from envs.suites.streams import distinct_seeds


class GymVecEnv:
    """E copies of one Gymnasium environment. What they return is checked on arrival; `info` is not read."""

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
        self.num_envs = num_envs
        self._id = env_id
        self._envs: list[gymnasium.Env[Any, Any]] = []
        try:
            self._envs.append(make_one())
            self._actions = decode_actions(env_id, self._envs[0].action_space)
            self._reader = ObservationReader(env_id, self._envs[0].observation_space)
            self._envs += [make_one() for _ in range(num_envs - 1)]
        except BaseException:
            self.close()
            raise
        self.spec = EnvSpec(
            id=env_id,
            observation_shape=self._reader.shape,
            observation_dtype=self._reader.dtype,
            coded=self._reader.coded,
            num_actions=self._actions.number,
            continuous_actions=self._actions.continuous,
            action_sizes=self._actions.sizes,
            frames_per_step=frames_per_step,
            levels=(env_id,) * num_envs,
        )
        self._over: NDArray[np.bool_] | None = None

    def reset(self, seed: int) -> Observation:
        seeds = distinct_seeds(seed, self.num_envs).tolist()
        seen = [self._begin(slot, seed=slot_seed) for slot, slot_seed in enumerate(seeds)]
        self._over = np.zeros(self.num_envs, np.bool_)
        return self._reader.read(seen)

    def step(self, actions: NDArray[Any]) -> VecStep:
        """Raises ValueError before the first reset, and for actions of a wrong shape or out of range;
        EnvFaultError for what does not lie in the env's spaces."""
        if self._over is None:
            raise ValueError(f"{self._id}: call reset(seed) before step")
        check_actions(self.spec, self.num_envs, actions)
        seen: list[Any] = []
        reward = np.zeros(self.num_envs, np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        for slot, env in enumerate(self._envs):
            if self._over[slot]:
                seen.append(self._begin(slot))
                continue
            arrived: Any = env.step(self._actions.decode(actions[slot]))
            if not isinstance(arrived, tuple) or len(arrived) != 5:
                expected = "(observation, reward, terminated, truncated, info)"
                raise self._failure("what step() returned", slot, arrived, expected)
            seen.append(arrived[0])
            with np.errstate(over="ignore"):  # an infinity, which is looked for later
                reward[slot] = self._number("reward", slot, arrived[1], "biuf", "a number")
            over = self._number("terminated", slot, arrived[2], "b", "a bool")
            cut = self._number("truncated", slot, arrived[3], "b", "a bool")
            # A time limit may mark a terminal observation too; the value of a terminal one is known.
            terminated[slot], truncated[slot] = over, cut and not over
        self._over = terminated | truncated
        return VecStep(
            observation=self._reader.read(seen),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            game_over=self._over.copy(),
        )

    def _begin(self, slot: int, **options: Any) -> Any:
        """A new episode; its first observation."""
        arrived: Any = self._envs[slot].reset(**options)
        if not isinstance(arrived, tuple) or len(arrived) != 2 or not isinstance(arrived[1], dict):
            raise self._failure("what reset() returned", slot, arrived, "(observation, info)")
        return arrived[0]

    def _number(self, name: str, slot: int, value: Any, kinds: str, expected: str) -> Any:
        array = np.asarray(value)
        if array.shape != () or array.dtype.kind not in kinds:
            raise self._failure(name, slot, value, expected)
        return array[()]

    def _failure(self, name: str, slot: int, found: Any, expected: str) -> EnvFaultError:
        words = f"a tuple of {len(found)}" if isinstance(found, tuple) else describe(found)
        return EnvFaultError(f"{self._id}: {name} of slot {slot} is {words}, expected {expected}")

    def close(self) -> None:
        envs, self._envs = self._envs, []
        for env in envs:
            close_env(self._id, env)


class DrawnGymVecEnv(GymVecEnv):
    """Of an environment with the render mode `rgb_array`."""

    def draw(self) -> NDArray[np.uint8]:
        try:
            picture: Any = self._envs[0].render()
        except Exception as error:  # renderers raise whatever their graphics library does
            told = str(error) or repr(error)
            raise EnvError(
                f"env.id = {self.spec.id!r} cannot draw itself here: {told}\nAdd --observation to draw what "
                "the policy sees. (MuJoCo on a machine without a display: set MUJOCO_GL=egl)"
            ) from error
        return as_picture(self.spec.id, picture)


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


# --- the suite of all ids that no other suite claims ---------------------------------------------


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    """All registered ids, after the import of the module that the id may name, and a look at the wrappers."""
    module, colon, name = config.id.rpartition(":")
    if colon:
        import_module(module, f"env.id = {config.id!r}")
    for reference in config.wrapper_names:
        attribute(reference, f"env.wrappers = {config.wrappers!r}")
    registered = tuple(cast("dict[str, Any]", gymnasium.registry))
    if colon and name not in registered and (theirs := hidden_folder(module)) is not None:
        raise EnvError(f"env.id = {config.id!r}: {taken(module, theirs)}")
    return (*registered, *(f"{module}:{env_id}" for env_id in registered if colon))


def suggestions(config: EnvConfig) -> list[str]:
    """Of `known_ids` those that may be meant: behind the name of a module, what that module brings itself."""
    module, colon, _ = config.id.rpartition(":")
    registry = cast("dict[str, Any]", gymnasium.registry)

    def theirs(env_id: str) -> bool:
        entry = registry[env_id].entry_point
        home = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
        return f"{home}.".startswith(f"{module}.")

    return [*registry, *(f"{module}:{env_id}" for env_id in registry if colon and theirs(env_id))]


def _make_one(config: EnvConfig, **options: Any) -> gymnasium.Env[Any, Any]:
    arguments: dict[str, Any] = json.loads(config.kwargs or "{}")
    try:
        env = make_registered(config.id, config.id, **(arguments | options))
    except TypeError as error:
        if not arguments:
            raise
        raise EnvError(f"env.id = {config.id!r} with env.kwargs = {config.kwargs!r}: {error}") from error
    for reference in config.wrapper_names:
        wrapped = attribute(reference, f"env.wrappers = {config.wrappers!r}")(env)
        if not isinstance(wrapped, gymnasium.Env):
            raise EnvError(f"env.wrappers: {reference} returned {describe(wrapped)}, expected an environment")
        env = wrapped
    return env


def make(config: EnvConfig, first_stream: int) -> GymVecEnv:
    return GymVecEnv(config.id, config.num_envs, partial(_make_one, config))


def make_drawn(config: EnvConfig) -> DrawnGymVecEnv | None:
    return make_drawing(config.id, partial(_make_one, config))
