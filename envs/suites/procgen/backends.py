"""The two packages that carry ProcGen's games, each behind the contract of `envs/spec.py`.

From one level seed they build the same level and play it alike, step for step (coinrun is drawn a little
differently, by another Qt). From one seed they draw different sequences of levels. And they differ in this:

    envpool   shows the final observation of an episode. Steps slots in threads. 300 MB, and a system's Qt 5.
    procgen   (procgen-mirror, the original code) has none: the last one is repeated. Steps slots one after
              the other. 48 MB, and nothing of the system.

Neither tells whether an episode that ends at the very step of the time limit would have ended without it:
that counts as truncated, and every other end as terminated.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig
from envs.spec import EnvError, EnvSpec, VecStep, check_actions
from envs.suites.streams import distinct_seeds

PREFIX = "procgen/"
SIDE = 64
"""Pixels"""
NUM_ACTIONS = 15

TIME_LIMITS = {
    "bigfish": 6000,
    "bossfight": 4000,
    "caveflyer": 1000,
    "chaser": 1000,
    "climber": 1000,
    "coinrun": 1000,
    "dodgeball": 1000,
    "fruitbot": 1000,
    "heist": 1000,
    "jumper": 1000,
    "leaper": 500,
    "maze": 500,
    "miner": 1000,
    "ninja": 1000,
    "plunder": 4000,
    "starpilot": 1000,
}
"""Steps after which a game ends an episode."""

_INSTALL_ENVPOOL = "pip install -c constraints.txt envpool"
_INSTALL_QT = "apt-get install -y --no-install-recommends libqt5gui5"
# Its metadata asks for NumPy 1 and cffi 1, which it does not need: installed with its dependencies it would
# downgrade both, and break envpool and Ray.
_INSTALL_PROCGEN = (
    "pip install --no-deps procgen-mirror==0.10.7 gym3==0.3.3 gym==0.26.2"
    " && pip install -c constraints.txt cffi imageio"
)


class _ProcgenVecEnv:
    """E slots of one game. Observation: uint8 [3, 64, 64]. The games are built by `reset`."""

    def __init__(self, config: EnvConfig) -> None:
        self.num_envs = config.num_envs
        self.spec = EnvSpec(
            id=config.id,
            observation_shape=(3, SIDE, SIDE),
            observation_dtype="uint8",
            num_actions=NUM_ACTIONS,
            levels=(config.id,) * config.num_envs,
        )
        self.level_seeds = np.full(config.num_envs, -1, np.int32)
        """[E], seed of the level that each slot plays."""
        self._game = config.id.removeprefix(PREFIX)
        self._mode: str = config.procgen.distribution_mode
        self._levels: dict[str, Any] = {}
        """Options of the level set. The one level of exploration is known to both packages."""
        if self._mode != "exploration":
            self._levels = {
                "num_levels": config.procgen.num_levels,
                "start_level": config.procgen.start_level,
            }


class EnvpoolVecEnv(_ProcgenVecEnv):
    """By envpool, which autoresets on the next step, and tells truncation from termination, itself."""

    def __init__(self, config: EnvConfig) -> None:
        super().__init__(config)
        self._envpool = _load_envpool()
        self._num_threads = config.threads
        self._envs: Any = None

    def reset(self, seed: int) -> NDArray[Any]:
        self.close()
        # envpool takes seeds at construction only.
        self._envs = self._envpool.make_gymnasium(
            f"{self._game.capitalize()}{self._mode.capitalize()}-v0",
            num_envs=self.num_envs,
            num_threads=self._num_threads,
            seed=distinct_seeds(seed, self.num_envs).tolist(),
            **self._levels,
        )
        observation, info = self._envs.reset()
        self.level_seeds = info["level_seed"].copy()
        return observation

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        self.send(actions)
        return self.recv()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Raises ValueError before the first reset, for a wrong shape, or an action outside [0, 15)."""
        if self._envs is None:
            raise ValueError(f"{self.spec.id}: call reset(seed) before step")
        check_actions(self.spec, self.num_envs, actions)
        self._envs.send(actions.astype(np.int32))

    def recv(self) -> VecStep:
        observation, reward, terminated, truncated, info = self._envs.recv()
        self.level_seeds = info["level_seed"].copy()
        return VecStep(
            observation=observation,
            reward=reward.astype(np.float32),
            terminated=terminated.astype(np.bool_),
            truncated=truncated & ~terminated,
            game_over=terminated | truncated,
        )

    def close(self) -> None:
        if self._envs is not None:
            self._envs.close()
        self._envs = None


class MirrorVecEnv(_ProcgenVecEnv):
    """By procgen-mirror, whose games start the new episode in the step that ends the old one.

    So at an end the last observation is repeated, and the next step only looks at the game, which
    already is at its first frame. Every slot is a game of its own, since the games of one
    ProcgenGym3Env are stepped all together.
    """

    def __init__(self, config: EnvConfig) -> None:
        super().__init__(config)
        self._make_game = _load_procgen().ProcgenGym3Env
        self._games: list[Any] = []
        self._observation = np.zeros((self.num_envs, 3, SIDE, SIDE), np.uint8)
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._elapsed = np.zeros(self.num_envs, np.int64)
        """Steps of the episode so far."""

    def reset(self, seed: int) -> NDArray[Any]:
        self.close()
        for slot, game_seed in enumerate(distinct_seeds(seed, self.num_envs).tolist()):
            self._games.append(self._new_game(game_seed))
            self._begin(slot)
        return self._observation.copy()

    def _new_game(self, seed: int) -> Any:
        game = self._make_game(
            num=1,
            env_name=self._game,
            distribution_mode=self._mode,
            rand_seed=seed,
            num_threads=0,  # steps in the calling thread
            **self._levels,
        )
        # cffi looks a function up under a lock that also loading a game holds. A game that is closed by the
        # garbage collector in the middle of that would wait for ever: so its closing is looked up now.
        _ = game._c_lib.libenv_close
        return game

    def _begin(self, slot: int) -> None:
        """Takes up the first observation of an episode."""
        game = self._games[slot]
        self._observation[slot] = game.observe()[1]["rgb"][0].transpose(2, 0, 1)
        self.level_seeds[slot] = game.get_info()[0]["level_seed"]
        self._ended[slot] = False
        self._elapsed[slot] = 0

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        """Raises ValueError before the first reset, for a wrong shape, or an action outside [0, 15)."""
        if not self._games:
            raise ValueError(f"{self.spec.id}: call reset(seed) before step")
        check_actions(self.spec, self.num_envs, actions)
        reward = np.zeros(self.num_envs, np.float32)
        for slot, game in enumerate(self._games):
            if self._ended[slot]:
                self._begin(slot)
                continue
            game.act(actions[slot : slot + 1])
            (reward[slot],), seen, (self._ended[slot],) = game.observe()
            self._elapsed[slot] += 1
            if not self._ended[slot]:
                self._observation[slot] = seen["rgb"][0].transpose(2, 0, 1)
        truncated = self._ended & (self._elapsed >= TIME_LIMITS[self._game])
        return VecStep(
            observation=self._observation.copy(),
            reward=reward,
            terminated=self._ended & ~truncated,
            truncated=truncated,
            game_over=self._ended.copy(),
        )

    def close(self) -> None:
        for game in self._games:
            game.close()
        self._games = []


def _load_envpool() -> ModuleType:
    try:
        import envpool
        from envpool.procgen import ProcgenEnvSpec  # noqa: F401  (loads the games and the Qt that they draw with)
    except ModuleNotFoundError as error:
        if error.name != "envpool":
            raise
        raise EnvError(f"the package 'envpool' is not installed: {_INSTALL_ENVPOOL}") from error
    except ImportError as error:
        library = re.search(r"libQt5\w+\.so\.5", f"{error.__cause__} {error}")
        if library is None:
            raise
        raise EnvError(f"envpool cannot load the system's {library[0]}: {_INSTALL_QT}") from error
    return envpool


def _load_procgen() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it imports is old: gym 0.26
            import procgen  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        if error.name not in ("procgen", "gym3", "gym", "cffi", "imageio", "filelock"):
            raise
        raise EnvError(f"the package {error.name!r} is not installed: {_INSTALL_PROCGEN}") from error
    return procgen


LOAD: Mapping[str, Callable[[], ModuleType]] = {"envpool": _load_envpool, "procgen": _load_procgen}
"""Backends, in the order in which `auto` tries them."""


def obstacle(backend: str) -> str | None:
    """What keeps `backend` from running here, and the command that mends it; None if nothing does."""
    try:
        LOAD[backend]()
    except EnvError as error:
        return str(error)
    return None
