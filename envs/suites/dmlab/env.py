"""DeepMind Lab (Beattie et al. 2016): `dmlab/rooms_watermaze`, every other level, and sets of levels.

    dmlab/LEVEL             a level of DMLab-30, of the memory suite, or of the base set, by its short name
    dmlab/contributed/...   any level by the path of its script below `game_scripts/levels`
    dmlab/dmlab30           thirty levels: with E slots an actor, slot s of actor a plays number a E + s,
    dmlab/memory_suite      modulo the number of levels

No package index has the engine; it is built from source (`launch.py doctor` prints the commands), and `zip`
must be there when it runs. Without a container the build needs, on Debian, Bazel and build-essential,
gettext, zip, pkg-config, libffi-dev, freeglut3-dev, libglu1-mesa-dev, libosmesa6-dev, libsdl2-dev, libjpeg-
dev, zlib1g-dev, lua5.1, liblua5.1-0-dev, python3-dev, python3-pil, and in the Python that Bazel runs
setuptools, wheel, and numpy in the version of the actors.

Many levels compile a new map for each seed, which takes 3 to 26 CPU seconds, more than the episode itself.
Actors that share `env.dmlab.level_cache` compile no map twice, and `env.dmlab.num_maps` makes the maps of
training a finite set, apart from those of evaluation. With `env.dmlab.reset_ahead` a second engine starts a
slot's next episode while the first one plays: no slot waits while the map of another is compiled. (A level
that changes its map in the middle of an episode compiles it within a step, and is waited for.)

What an episode is depends on all that its engine has played, not on the seed alone: to the bit, new engines
play the same episodes if they get the same seeds in the same order. So `reset` starts new ones.

`env.dmlab.extra_observations` adds parts to the image (envs/suites/dmlab/observations.py). The engine
observes nothing after an episode's end, so what it observed last is repeated. It does not tell a time limit
from other ends: every end terminates, as in IMPALA.
"""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.schema import EnvConfig
from envs.spec import EnvError, EnvSpec, Observation, VecStep, check_actions
from envs.suites.dmlab.actions import ACTIONS
from envs.suites.dmlab.levels import HELD_OUT, PREFIX, TEST_ONLY, LevelIds, levels_of, needs_images, path_of
from envs.suites.dmlab.observations import ObservationParts
from envs.suites.dmlab.process import EngineProcess, close_all
from envs.suites.dmlab.seeds import LevelSeeds

FPS = 60
EVALUATION_SEED = 0x600D5EED
"""`mixerSeed` of IMPALA's evaluation: the engine combines it with a level's seed, so that seeds set apart by
it are never those of training, which has 0."""


class DmlabVecEnv:
    """E engines, each in a process of its own, stepped at the same time; or, from a slot's second episode on,
    E pairs of engines that take turns at its episodes. Observation: uint8 [3, H, W]; with extra observations
    a dict in which that is `image`.

    Raises EnvError for an observation that does not exist, and, with the engine's own words, for a level that
    cannot be played and for an engine that fails later; all engines are closed by then.
    """

    def __init__(self, config: EnvConfig, first_stream: int) -> None:
        options, E = config.dmlab, config.num_envs
        names = levels_of(config.id)
        levels = [names[(first_stream + slot) % len(names)] for slot in range(E)]
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
        names = [f"{PREFIX}{level}, stream {first_stream + slot}" for slot, level in enumerate(levels)]
        how = (self._observed.asked, _settings(config), options.renderer, options.level_cache)
        self._plans = [(name, path_of(level), *how) for name, level in zip(names, levels, strict=True)]
        self._num_maps, self._renderer_threads = options.num_maps, config.threads
        self._ahead = E > 1 if options.reset_ahead is None else options.reset_ahead
        self._engines: list[EngineProcess] = []
        """[E], those that play."""
        self._spares: list[EngineProcess | None] = []
        """[E], those that meanwhile reset for the slots' next episodes."""
        self._open()

    def _open(self) -> None:
        """An engine a slot, none of which has played anything."""
        self._begun = [0] * self.num_envs
        try:
            for slot in range(self.num_envs):
                self._engines.append(self._start(slot))
            self._spares = [None] * self.num_envs
            for engine in self._engines:
                engine.pid = engine.receive()
        except BaseException:
            self.close()
            raise

    def _start(self, slot: int) -> EngineProcess:
        """It owes its process id."""
        name, *arguments = self._plans[slot]
        engine = EngineProcess(name, self._renderer_threads)
        engine.send("open", *arguments)
        return engine

    def reset(self, seed: int) -> Observation:
        if not self._engines:
            raise ValueError(f"{self.spec.id}: closed; make it anew")
        if self._seeds is not None:
            self.close()
            self._open()
        self._seeds = LevelSeeds(seed, self.num_envs, self._num_maps)
        self._ended[:] = True
        self._begin([()] * self.num_envs)
        return self.recv().observation

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        self.send(actions)
        return self.recv()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Raises ValueError before `reset`, for a wrong shape, or an action outside [0, num_actions)."""
        if self._seeds is None:
            raise ValueError(f"{self.spec.id}: call reset before step")
        check_actions(self.spec, self.num_envs, actions)
        self._begin([self._actions[action] for action in actions])

    def _begin(self, actions: list[tuple[int, ...]]) -> None:
        """All engines set to work: on a new episode where one has ended, elsewhere on a step."""
        assert self._seeds is not None
        try:
            for slot, spare in enumerate(self._spares):
                if not self._ended[slot]:
                    self._engines[slot].send("step", actions[slot], self._repeat)
                elif spare is not None:
                    self._engines[slot], self._spares[slot] = spare, self._engines[slot]
                else:
                    self._engines[slot].send("reset", self._seeds.next(slot))
        except BaseException:
            self.close()
            raise

    def recv(self) -> VecStep:
        """All engines listened to."""
        assert self._seeds is not None
        parts = {name: array.copy() for name, array in self._parts.items()}
        reward = np.zeros(self.num_envs, np.float32)
        ended = np.zeros(self.num_envs, np.bool_)
        try:
            for slot, engine in enumerate(self._engines):
                if engine.pid is None:
                    engine.pid = engine.receive()
                observed = engine.receive()
                if not self._ended[slot]:
                    reward[slot], observed = observed
                    ended[slot] = observed is None
                if observed is not None:
                    self._observed.write(parts, slot, observed, engine.name)
            for slot in np.flatnonzero(self._ended).tolist():
                self._begun[slot] += 1
                if self._ahead and self._begun[slot] > 1:
                    spare = self._spares[slot] = self._spares[slot] or self._start(slot)
                    spare.send("reset", self._seeds.next(slot))
        except BaseException:
            self.close()
            raise
        self._parts, self._ended = parts, ended
        observation = self._observed.fresh(parts)
        return VecStep(observation, reward, ended.copy(), np.zeros_like(ended), ended.copy())

    def engine_pids(self) -> list[int]:
        """Process ids of the engines that play, for diagnosis and fault tests."""
        return [engine.pid for engine in self._engines if engine.pid is not None]

    def close(self) -> None:
        spares = [spare for spare in self._spares if spare is not None]
        engines, self._engines, self._spares, self._seeds = [*self._engines, *spares], [], [], None
        close_all(engines)


def _settings(config: EnvConfig) -> dict[str, str]:
    """The engine's settings, which are strings. Raises EnvError for a level that lacks one, and for a folder
    that is not there: the engine would abort at the first image."""
    options = config.dmlab
    images = options.dataset_path
    if images not in (None, "dummy") and not Path(images).is_dir():
        raise EnvError(f"env.dmlab.dataset_path = {images!r} is no folder on {platform.node()}")
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

    It has the level's held-out counterpart where there is one, else the same level, with seeds set apart, and
    no finite set of them.
    """
    if config.dmlab.held_out:
        return None
    name = config.id.removeprefix(PREFIX)
    path, slash, last = name.rpartition("/")
    counterpart = HELD_OUT.get(name) or path + slash + HELD_OUT.get(last, last)
    return dataclasses.replace(
        config, id=PREFIX + counterpart, dmlab=dataclasses.replace(config.dmlab, held_out=True, num_maps=0)
    )


def known_ids(config: EnvConfig) -> LevelIds:
    return LevelIds()


def make(config: EnvConfig, first_stream: int) -> DmlabVecEnv:
    return DmlabVecEnv(config, first_stream)
