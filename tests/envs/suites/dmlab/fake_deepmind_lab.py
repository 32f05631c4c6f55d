"""A stand-in for the C extension `deepmind_lab`, as strict as the engine or stricter.

Wherever the real module raises, so does this one, with the same type; where the real one's behaviour is
undefined (actions out of range or with strides, two engines in a process, a seed that is no C int), this one
raises too. Each clause is tripped in test_dmlab_fake.py. Read off python/dmlab_module.c and docs/users of
google-deepmind/lab, and checked against the engine itself on 2026-11-26. The game: each frame of moving
forward earns 1; the first rows of an image carry the seed of the episode, its frame number, and a digest of
all seeds that this engine was reset with, four bytes each, in the channel `SEED_CHANNEL`. Observations of
numbers are all the frame number, and an episode's seed decides its instruction.

Maps are compiled as the engine does it: a shell that outlives a killed engine runs a tool, which writes into
the temporary folder, and `zip`. The map of seed S takes for as long as there is a file COMPILE_VARIABLE.S.

EVERTRACE_FAKE_LAB names a file to which every engine adds a line of JSON: what it was made of.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pytest

EPISODE_FRAMES = 30
SEED_CHANNEL = 1
INSTRUCTIONS = ("pick up the red balloon", "collect all blue hats", "go")
"""By the seed of the episode, modulo their number."""
LOG_VARIABLE = "EVERTRACE_FAKE_LAB"
COMPILE_VARIABLE = "EVERTRACE_FAKE_COMPILE"

_ROOMS = "collect_good_objects_train collect_good_objects_test exploit_deferred_effects_train \
exploit_deferred_effects_test keys_doors_puzzle select_nonmatching_object watermaze"
_SCRIPTS = {
    "contributed/dmlab30": {
        "explore": "goal_locations_large goal_locations_small object_locations_large object_locations_small "
        "object_rewards_few object_rewards_many obstructed_goals_large obstructed_goals_small",
        "language": "answer_quantitative_question execute_random_task select_described_object "
        "select_located_object",
        "lasertag": "one_opponent_large one_opponent_small three_opponents_large three_opponents_small",
        "natlab": "fixed_large_map varying_map_randomized varying_map_regrowth",
        "psychlab": "arbitrary_visuomotor_mapping continuous_recognition sequential_comparison visual_search",
        "rooms": _ROOMS,
        "skymaze": "irreversible_path_hard irreversible_path_varied",
    },
    "contributed/psychlab/memory_suite_01": {
        "arbitrary_visuomotor_mapping": "holdout_extrapolate holdout_interpolate train",
        "change_detection": "holdout_extrapolate holdout_interpolate train",
        "continuous_recognition": "holdout_extrapolate holdout_interpolate train",
        "explore_goal_locations": "extrapolate holdout_extrapolate holdout_interpolate holdout_large "
        "holdout_small interpolate train_large train_small",
        "what_then_where": "holdout_interpolate train",
    },
    "": {
        "nav_maze": "random_goal_01 random_goal_02 random_goal_03 static_01 static_02 static_03",
        "lt": "chasm hallway_slope horseshoe_color space_bounce_hard",
        "seekavoid": "arena_01",
        "stairway": "to_melon",
    },
    "demos": {"extra": "entities"},
    "tests": {
        "custom": "actions_test",
        "empty": "room_test",
        "fake": "lua_error step_error abort exit hang chatter new_map",
    },
}
LEVELS = frozenset(
    f"{folder}/{first}_{rest}".lstrip("/")
    for folder, groups in _SCRIPTS.items()
    for first, names in groups.items()
    for rest in names.split()
)
"""The level scripts of the engine's source, file by file; `tests/fake_*` misbehave on purpose."""

_BOUNDS = (
    ("LOOK_LEFT_RIGHT_PIXELS_PER_FRAME", -512, 512),
    ("LOOK_DOWN_UP_PIXELS_PER_FRAME", -512, 512),
    ("STRAFE_LEFT_RIGHT", -1, 1),
    ("MOVE_BACK_FORWARD", -1, 1),
    ("FIRE", 0, 1),
    ("JUMP", 0, 1),
    ("CROUCH", 0, 1),
)
_CUSTOM_BOUNDS = (("SWITCH_GADGET", -1, 1), ("SELECT_GADGET", 0, 10))
"""Of the level tests/custom_actions_test."""
_ADDED_BY_LEVELS = {
    "DEBUG.PLAYER_ID FRAMES_REMAINING_AT_60": 1,
    "TEAM.SCORE": 2,
    "VEL.TRANS VEL.ROT DEBUG.POS.TRANS DEBUG.POS.ROT": 3,
    "DEBUG.FLAGS.RED_HOME DEBUG.FLAGS.BLUE_HOME": 4,
    "DEBUG.FLAGS.RED DEBUG.FLAGS.BLUE": 5,
}
"""Observations of numbers, by size; as INSTR, they come from a level's script, and a bare level has none."""
_SETTINGS = ("width", "height", "fps", "mixerSeed", "logLevel", "datasetPath", "allowHoldOutLevels")
"""Of the engine's settings, those that are used here; a level that is not bare takes no others."""
_COMPILE = """
set -e
cd "$1"
(while [ -e "$2" ]; do sleep 0.2; done)
mkdir -p maps
printf %s "$3" > "maps/$4.bsp"
zip -q "$4.pk3" "maps/$4.bsp"
"""
"""As deepmind/level_generation/compile_map.sh, whose q3map2 here is the loop."""
_UNINITIALIZED, _RUNNING, _TERMINATED, _CLOSED = range(4)
_engine: weakref.ref[Lab] | None = None


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes this file the package `deepmind_lab` of a test; returns the file that engines write into."""
    (folder / "lib").mkdir()
    shutil.copy(__file__, folder / "lib" / "deepmind_lab.py")
    monkeypatch.syspath_prepend(str(folder / "lib"))
    monkeypatch.setenv(LOG_VARIABLE, str(folder / "log"))
    return folder / "log"


def version() -> str:
    return "1.0"


class Lab:
    def __init__(
        self,
        level: str,
        observations: list[str],
        config: dict[str, str] | None = None,
        renderer: str = "software",
        level_cache: Any = None,
        temp_folder: str | None = None,
    ) -> None:
        global _engine
        self._status = _CLOSED
        config = {} if config is None else config
        for value, kind in ((level, str), (observations, list), (config, dict), (renderer, str)):
            if not isinstance(value, kind):
                raise TypeError(f"argument must be {kind.__name__}, not {type(value).__name__}")
        if renderer not in ("software", "hardware"):
            raise RuntimeError(f'renderer must be "hardware" or "software", not "{renderer}"')
        alive = None if _engine is None else _engine()
        if alive is not None and alive._status != _CLOSED:
            raise RuntimeError("a process holds one engine, and there is one already")
        for item in (*config, *config.values()):
            if not isinstance(item, str):
                raise TypeError("bad argument type for built-in operation")
        try:
            self._width, self._height = int(config.get("width", "320")), int(config.get("height", "240"))
            float(config.get("fps", "60"))
            self._mixer_seed = int(config.get("mixerSeed", "0"))
        except ValueError as error:
            raise RuntimeError(f"Failed to apply setting - {error}") from error
        for name, size in (("width", self._width), ("height", self._height)):
            if size < 4 or size % 4:
                raise RuntimeError(
                    f"Failed to apply setting '{name} = {size}' - "
                    f"\"'{name}' must be a positive multiple of 4. Actual {size}\""
                )
        if level not in LEVELS or level == "tests/fake_lua_error":
            print(f"{level}.lua:7: '=' expected near 'x'", file=sys.stderr, flush=True)
            raise RuntimeError(f'Failed to init environment - "{level}.lua: cannot be loaded"')
        self._bare = level.startswith("tests/")
        for name, value in config.items():
            if name not in _SETTINGS and not self._bare:
                raise RuntimeError(f'Failed to init environment - "Invalid setting: "{name}" = "{value}""')
        for_testing = level.startswith("contributed/dmlab30/") and level.endswith("_test")
        if for_testing and config.get("allowHoldOutLevels") != "true":
            raise RuntimeError(
                'Failed to init environment - "This level must only be used during evaluation. '
                'For training, use the *_train.lua version of the level."'
            )
        self._level, self._config, self._names = level, dict(config), list(observations)
        for name in observations:
            if name not in {spec["name"] for spec in self.observation_spec()}:
                raise ValueError(f"Unknown observation '{name}'.")
        self._cache = level_cache
        self._owned = tempfile.mkdtemp(prefix="dmlab_temp_folder_") if temp_folder is None else None
        self._folder = Path(temp_folder or self._owned or "", "baselab")
        self._seed = self._frame = self._num_steps = self._history = self._maps = 0
        self._status = _UNINITIALIZED
        _engine = weakref.ref(self)
        if LOG_VARIABLE in os.environ:
            line = {"level": level, "observations": observations, "config": config, "renderer": renderer}
            line |= {"pid": os.getpid(), "temp_folder": temp_folder}
            line |= {"renderer_threads": os.environ.get("LP_NUM_THREADS")}
            with open(os.environ[LOG_VARIABLE], "a") as file:
                file.write(json.dumps(line) + "\n")

    # --- what a running episode does ---------------------------------------------------------

    def reset(self, episode: int = -1, seed: int | None = None) -> bool:
        self._not_closed()
        if seed is None:
            seed = int.from_bytes(os.urandom(3))
        if not isinstance(seed, int):  # NumPy's integers are none
            raise ValueError(f"'seed' must be int or None, was '{type(seed).__name__}'.")
        if not -(2**31) <= seed < 2**31:
            raise OverflowError(f"seed {seed}: the engine would cut it down to a C int")
        if self._shows_images() and not self._config.get("datasetPath"):
            raise RuntimeError('Failed to start environment - "Follow instructions to download datasets"')
        if "goal_locations" in self._level:
            self._compile_map(seed)
        self._history = zlib.crc32(f"{self._history} {self._mixer_seed} {seed}".encode())
        self._seed, self._frame, self._num_steps, self._status = seed, 0, 0, _RUNNING
        return True

    def _shows_images(self) -> bool:
        name = self._level.rpartition("/")[2].removeprefix("psychlab_")
        return name.startswith(("arbitrary_visuo", "continuous_rec", "what_then"))

    def _compile_map(self, seed: int) -> None:
        """From the cache, or made and handed to it. What the cache's methods raise goes through."""
        key = f"{self._level}:{self._mixer_seed}:{seed}"
        self._folder.mkdir(exist_ok=True)
        self._maps += 1
        name, made = f"map_{self._maps}", f"map {key}"
        path = self._folder / f"{name}.pk3"
        # A key is no name for a file.
        if self._cache is not None and self._cache.fetch(key, str(path)):
            self._load_map(path, made)
            return
        held_up = f"{os.environ.get(COMPILE_VARIABLE, '')}.{seed}"
        command = ["/bin/sh", "-c", _COMPILE, "sh", str(self._folder), held_up, made, name]
        # popen(3): the child gets every descriptor that is not marked otherwise.
        output = subprocess.run(command, stdout=subprocess.PIPE, close_fds=False)
        if output.returncode:
            raise RuntimeError('Failed to start environment - "[makeMap] - Failed to compile map"')
        if self._cache is not None:
            self._cache.write(key, str(path))
        self._load_map(path, made)

    def _load_map(self, path: Path, made: str) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                (inside,) = archive.namelist()
                found = archive.read(inside).decode()
        except (OSError, zipfile.BadZipFile, ValueError):
            print(f"Didn't find map '{path.stem}'", file=sys.stderr, flush=True)
            os._exit(1)
        if found != made:
            raise RuntimeError(f'Failed to start environment - "{found} is not the map that was asked for"')

    def step(self, action: np.ndarray, num_steps: int = 1) -> float:
        if not isinstance(action, np.ndarray):
            raise TypeError(f"argument 1 must be numpy.ndarray, not {type(action).__name__}")
        if self._status != _RUNNING:
            raise RuntimeError("Environment in wrong status to advance.")
        bounds = self._bounds()
        if action.shape != (len(bounds),):
            raise ValueError(f"action must have shape ({len(bounds)})")
        if action.dtype != np.intc:
            raise ValueError("action must have dtype np.intc")
        if not action.flags.c_contiguous:
            raise ValueError("strides are ignored: the engine would read other memory")
        for value, (name, low, high) in zip(action, bounds, strict=True):
            if not low <= value <= high:
                raise ValueError(f"{name} = {value}: undefined outside {low} to {high}")
        self._misbehave()
        frames = min(num_steps, EPISODE_FRAMES - self._frame)
        self._frame += frames
        self._num_steps += num_steps
        if self._frame == EPISODE_FRAMES:
            self._status = _TERMINATED
        return float(frames * (action[3] == 1))

    def _misbehave(self) -> None:
        match self._level.removeprefix("tests/fake_"):
            case "chatter":
                print("a line of chatter " * 1000)
            case "hang":
                while True:
                    pass
            case _ if self._frame < 8:
                return
            case "new_map" if self._frame == 8:
                self._compile_map(self._seed)
            case "step_error":
                print("WARNING: Cvar_Set2: nil", file=sys.stderr, flush=True)
                raise ValueError('Failed to advance environment "attempt to index a nil value"')
            case "abort":
                print("ERROR: Hunk_Alloc failed", file=sys.stderr, flush=True)
                os.abort()
            case "exit":
                os._exit(3)

    def observations(self) -> dict[str, Any]:
        if self._status != _RUNNING:
            raise RuntimeError("Environment in wrong status for call to observations()")
        return {name: self._observe(name) for name in self._names}

    def _observe(self, name: str) -> Any:
        if name == "INSTR":
            return INSTRUCTIONS[self._seed % len(INSTRUCTIONS)]
        (spec,) = (spec for spec in self.observation_spec() if spec["name"] == name)
        if len(spec["shape"]) == 1:
            return np.full(spec["shape"], self._frame, spec["dtype"])
        folder = self._config.get("datasetPath", "")
        if self._shows_images() and folder != "dummy" and not Path(folder).is_dir():
            print(f"[image.load] - Failed to open {folder}/0001.png", file=sys.stderr, flush=True)
            os.abort()
        image = np.zeros((self._height, self._width, 3), np.uint8)
        image[..., 0] = zlib.crc32(self._level.encode()) % 256
        for row, value in enumerate((self._seed, self._frame, self._history)):
            written = (value % 2**32).to_bytes(4, "little")
            image[row, :4, SEED_CHANNEL] = np.frombuffer(written, np.uint8)
        image[..., 2] = np.arange(self._width) % 256
        if name == "RGB_INTERLEAVED":
            return image
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    # --- the rest --------------------------------------------------------------------------------

    def is_running(self) -> bool:
        return self._status == _RUNNING

    def num_steps(self) -> int:
        return self._num_steps

    def events(self) -> list[tuple[str, list[Any]]]:
        if self._status not in (_RUNNING, _TERMINATED):
            raise RuntimeError("Environment in wrong status for call to events()")
        return [("reset", [])] if self._num_steps == 0 else []

    def _bounds(self) -> tuple[tuple[str, int, int], ...]:
        return _BOUNDS + _CUSTOM_BOUNDS if self._level == "tests/custom_actions_test" else _BOUNDS

    def action_spec(self) -> list[dict[str, Any]]:
        return [{"name": name, "min": low, "max": high} for name, low, high in self._bounds()]

    def observation_spec(self) -> list[dict[str, Any]]:
        H, W = self._height, self._width
        images = {"RGB_INTERLEAVED": (H, W, 3), "RGB": (3, H, W)}
        specs = [{"name": name, "dtype": np.uint8, "shape": shape} for name, shape in images.items()]
        if self._bare:
            return specs
        specs.append({"name": "INSTR", "dtype": str, "shape": ()})
        for names, size in _ADDED_BY_LEVELS.items():
            for name in names.split():
                dtype = np.uint8 if name == "DEBUG.PLAYER_ID" else np.float64
                specs.append({"name": name, "dtype": dtype, "shape": (size,)})
        return specs

    def close(self) -> bool:
        was_open = self._status != _CLOSED
        self._status = _CLOSED
        if was_open and self._owned is not None:
            shutil.rmtree(self._owned)
        return was_open

    def _not_closed(self) -> None:
        if self._status == _CLOSED:
            raise RuntimeError("the engine is closed")
