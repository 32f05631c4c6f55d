"""DeepMind Lab (Beattie et al. 2016): `dmlab/rooms_watermaze`, every other level, and sets of levels.

    dmlab/LEVEL             a level of DMLab-30, of the memory suite, or of the base set, by its short name
    dmlab/contributed/...   any level by the path of its script below `game_scripts/levels`
    dmlab/dmlab30           thirty levels: with E slots an actor, slot s of actor a plays number a E + s,
    dmlab/memory_suite      modulo the number of levels

No package index has the engine; it is built from source (`launch.py doctor` prints the commands). On Debian
the build needs Bazel and build-essential, gettext, zip, pkg-config, libffi-dev, freeglut3-dev,
libglu1-mesa-dev, libosmesa6-dev, libsdl2-dev, libjpeg-dev, zlib1g-dev, lua5.1, liblua5.1-0-dev, python3-dev,
python3-pil, and in the Python that Bazel runs setuptools, wheel, and numpy in the version of the actors.

`env.dmlab.extra_observations` adds parts to the image (envs/suites/dmlab/observations.py). The engine
observes nothing after an episode's end, so what it observed last is repeated. It does not tell a time limit
from other ends: every end terminates, as in IMPALA.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig
from envs.spec import EnvError, EnvSpec, Observation, VecStep, check_actions
from envs.suites.dmlab.levels import HELD_OUT, PREFIX, TEST_ONLY, LevelIds, levels_of, needs_images, path_of
from envs.suites.dmlab.observations import ObservationParts
from envs.suites.dmlab.process import EngineProcess, close_all

FPS = 60
EVALUATION_SEED = 0x600D5EED
"""`mixerSeed` of IMPALA's evaluation: the engine combines it with a level's seed, so that seeds set apart by
it are never those of training, which has 0."""
MAX_SEED = 2**31 - 1
"""A prime."""


def _action(turn: int = 0, pitch: int = 0, strafe: int = 0, move: int = 0, fire: int = 0) -> tuple[int, ...]:
    """The engine's seven numbers. Turn and pitch are pixels a frame: positive is right, and down."""
    return (turn, pitch, strafe, move, fire, 0, 0)


ACTIONS = {
    # IMPALA (arXiv 1802.01561), appendix D
    "impala": (
        *(_action(move=1), _action(move=-1), _action(strafe=-1), _action(strafe=1)),
        *(_action(turn=-20), _action(turn=20), _action(turn=-20, move=1), _action(turn=20, move=1)),
        _action(fire=1),
    ),
    # PopArt for many tasks (arXiv 1809.04474), appendix; R2D2 takes the same
    "popart": (
        *(_action(move=1), _action(move=-1), _action(strafe=-1), _action(strafe=1)),
        *(_action(turn=-10), _action(turn=10), _action(turn=-60), _action(turn=60)),
        *(_action(pitch=10), _action(pitch=-10)),
        *(_action(turn=-10, move=1), _action(turn=10, move=1)),
        *(_action(turn=-60, move=1), _action(turn=60, move=1)),
        _action(fire=1),
    ),
}


class LevelSeeds:
    """Seeds in [0, MAX_SEED), Python ints as the engine wants them. No two episodes of an env, in whatever
    slots, get the same one."""

    def __init__(self, seed: int, num_envs: int) -> None:
        random = np.random.default_rng(np.random.SeedSequence(seed))
        self._offset, self._stride = int(random.integers(MAX_SEED)), int(random.integers(1, MAX_SEED))
        self._episodes = [0] * num_envs

    def next(self, slot: int) -> int:
        index = self._episodes[slot] * len(self._episodes) + slot
        self._episodes[slot] += 1
        return (self._offset + self._stride * index) % MAX_SEED  # one-to-one, since MAX_SEED is a prime


class DmlabVecEnv:
    """E engines, each in a process of its own, stepped at the same time. Observation: uint8 [3, H, W]; with
    extra observations a dict in which that is `image`.

    Raises EnvError for an observation that does not exist, and, with the engine's own words, for a level that
    cannot be played and for an engine that fails later; all engines are closed by then.
    """

    def __init__(self, config: EnvConfig, actor_id: int) -> None:
        options, E = config.dmlab, config.num_envs
        names = levels_of(config.id)
        levels = [names[(actor_id * E + slot) % len(names)] for slot in range(E)]
        self.num_envs = E
        self._observed = ObservationParts(options)
        self.spec = EnvSpec(
            id=config.id,
            observation_shape=self._observed.shape,
            observation_dtype=self._observed.dtype,
            num_actions=len(ACTIONS[options.actions]),
            frames_per_step=options.action_repeat,
            levels=tuple(PREFIX + level for level in levels),
        )
        self._actions, self._repeat = ACTIONS[options.actions], options.action_repeat
        self._ended = np.zeros(E, np.bool_)
        self._parts = self._observed.zeros(E)
        self._seeds: LevelSeeds | None = None
        self._engines: list[EngineProcess] = []
        how = (self._observed.asked, _settings(config), options.renderer, options.level_cache)
        try:
            for slot, level in enumerate(levels):
                self._engines.append(EngineProcess(f"{PREFIX}{level}, slot {slot} of actor {actor_id}"))
            for engine, level in zip(self._engines, levels, strict=True):
                engine.send("open", path_of(level), *how)
            for engine in self._engines:
                engine.receive()
        except BaseException:
            self.close()
            raise

    def reset(self, seed: int) -> Observation:
        if not self._engines:
            raise ValueError(f"{self.spec.id}: closed; make it anew")
        self._seeds = LevelSeeds(seed, self.num_envs)
        self._ended[:] = True
        return self._exchange([()] * self.num_envs).observation

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        """Raises ValueError before `reset`, for a wrong shape, or an action outside [0, num_actions)."""
        if self._seeds is None:
            raise ValueError(f"{self.spec.id}: call reset before step")
        check_actions(self.spec, self.num_envs, actions)
        return self._exchange([self._actions[action] for action in actions])

    def _exchange(self, actions: list[tuple[int, ...]]) -> VecStep:
        """A new episode where one has ended, elsewhere a step: all engines work, then all are listened to."""
        assert self._seeds is not None
        parts = {name: array.copy() for name, array in self._parts.items()}
        reward = np.zeros(self.num_envs, np.float32)
        ended = np.zeros(self.num_envs, np.bool_)
        try:
            for slot, engine in enumerate(self._engines):
                if self._ended[slot]:
                    engine.send("reset", self._seeds.next(slot))
                else:
                    engine.send("step", actions[slot], self._repeat)
            for slot, engine in enumerate(self._engines):
                observed = engine.receive()
                if not self._ended[slot]:
                    reward[slot], observed = observed
                    ended[slot] = observed is None
                if observed is not None:
                    self._observed.write(parts, slot, observed, engine.name)
        except BaseException:
            self.close()
            raise
        self._parts, self._ended = parts, ended
        observation = self._observed.fresh(parts)
        return VecStep(observation, reward, ended.copy(), np.zeros_like(ended), ended.copy())

    def engine_pids(self) -> list[int]:
        """Process ids of the engines, for diagnosis and fault tests."""
        return [engine.pid for engine in self._engines]

    def close(self) -> None:
        engines, self._engines, self._seeds = self._engines, [], None
        close_all(engines)


def _settings(config: EnvConfig) -> dict[str, str]:
    """The engine's settings, which are strings. Raises EnvError for a level that lacks one."""
    options = config.dmlab
    for level in levels_of(config.id):
        if needs_images(level) and options.dataset_path is None:
            raise EnvError(
                f"env.dmlab.dataset_path = None: {PREFIX}{level} shows images that do not come with the "
                "engine; name their folder (data/ in the engine's source tells where to get them), or 'dummy'"
            )
        if level.rpartition("/")[2] in TEST_ONLY.values() and not options.held_out:
            raise EnvError(
                f"env.dmlab.held_out = False: {PREFIX}{level} must not be trained on; "
                "set it to True to evaluate on it"
            )
    settings = {
        "width": str(options.width),
        "height": str(options.height),
        "fps": str(FPS),
        "logLevel": "WARN",
    }
    if options.dataset_path is not None:
        settings["datasetPath"] = options.dataset_path
    if options.held_out:
        settings |= {"allowHoldOutLevels": "true", "mixerSeed": str(EVALUATION_SEED)}
    return settings


def held_out(config: EnvConfig) -> EnvConfig | None:
    """The env that tells how well a policy trained on `config` generalises; None if `config` is such an env.

    It has the level's held-out counterpart where there is one, else the same level, with seeds set apart.
    """
    if config.dmlab.held_out:
        return None
    name = config.id.removeprefix(PREFIX)
    path, slash, last = name.rpartition("/")
    counterpart = HELD_OUT.get(name) or path + slash + HELD_OUT.get(last, last)
    return dataclasses.replace(
        config, id=PREFIX + counterpart, dmlab=dataclasses.replace(config.dmlab, held_out=True)
    )


def known_ids(config: EnvConfig) -> LevelIds:
    return LevelIds()


def make(config: EnvConfig, actor_id: int) -> DmlabVecEnv:
    return DmlabVecEnv(config, actor_id)
