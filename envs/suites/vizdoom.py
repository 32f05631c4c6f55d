"""ViZDoom (Wydmuch, Kempka and Jaskowski 2019, arXiv 1809.03470): first-person scenarios.

`vizdoom/MyWayHome` and so on: the scenarios of which one button is pressed at a time (as many actions as
buttons, and doing nothing), seen by their screen alone: uint8 [3, 60, 80], 160 x 120 pixels averaged two by
two. Each slot is an engine process, which dies with this one.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shlex
import sys
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from configs.schema import EnvConfig
from envs.spec import EnvError
from envs.suites import die_with_parent
from envs.suites.gym.env import GymVecEnv, make_registered

HEIGHT, WIDTH = 60, 80
"""Pixels"""

# A scenario that differs from another by its sound or its messages is no other one by its screen; that of
# Deathmatch needs continuous actions beside the buttons.
_WITHOUT = ("BasicAudio", "BasicNotifications", "Deathmatch")


@cache
def _gym_ids() -> dict[str, str]:
    importlib.import_module("vizdoom.gymnasium_wrapper")  # registers them
    return {
        f"vizdoom/{match[1]}": str(gym_id)
        for gym_id, spec in gymnasium.registry.items()
        if (match := re.fullmatch(r"Vizdoom(\w+)-v1", str(gym_id)))
        and spec.kwargs.get("max_buttons_pressed") == 1
        and match[1] not in _WITHOUT
    }


def with_parent(folder: Path, program: Path) -> Path:
    """A script in `folder` that ViZDoom starts in place of `program`: it becomes that, bound to this process.

    Raises EnvError where no program in `folder` may run.
    """
    script = folder / "vizdoom"
    command = [sys.executable, "-IS", die_with_parent.__file__, str(os.getpid()), str(program)]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    script.chmod(0o700)
    if not os.access(script, os.X_OK):
        raise EnvError(
            f"no program may run in {folder} (mounted noexec?), from where ViZDoom's engine is started; "
            "set TMPDIR to a folder where programs may run"
        )
    return script


class Screen(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The screen at half its size, [60, 80, 3]. The engine shows nothing once an episode has ended: the last
    screen is repeated. An episode that runs out of time is truncated only, where ViZDoom says both."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        self._last = np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def _half(self, screen: NDArray[np.uint8]) -> NDArray[np.uint8]:
        blocks = screen.reshape(HEIGHT, 2, WIDTH, 2, 3).astype(np.uint16)
        self._last = ((blocks.sum((1, 3)) + 2) // 4).astype(np.uint8)
        return self._last

    def reset(self, **options: Any) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        game: Any = cast(Any, self.env.unwrapped).game
        observation, info = self.env.reset(**options) if game.is_running() else self._start(game, options)
        return self._half(observation["screen"]), info

    def _start(self, game: Any, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The first reset, which starts the engine. It leaves nothing behind, however this process ends: no
        settings, no folder in the working directory, no name of the shared memory (what is mapped stays)."""
        game.set_doom_config_path(os.devnull)
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            if sys.platform == "linux":
                engine = Path(importlib.import_module("vizdoom").__file__ or "").with_name("vizdoom")
                game.set_vizdoom_path(str(with_parent(Path(folder), engine)))
            first = self.env.reset(**options)
        maps = Path("/proc/self/maps")
        if maps.exists():
            for name in set(re.findall(r"/dev/shm/ViZDoom\w+$", maps.read_text(), re.MULTILINE)):
                os.unlink(name)
        return first

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        ended = terminated or truncated
        screen = self._last if ended else self._half(observation["screen"])
        return screen, float(reward), terminated and not truncated, truncated, info


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return tuple(_gym_ids())


def _make_one(config: EnvConfig) -> gymnasium.Env[Any, Any]:
    resolution: Any = importlib.import_module("vizdoom").ScreenResolution
    options = {"frame_skip": config.vizdoom.frame_skip, "screen_resolution": resolution.RES_160X120}
    return Screen(make_registered(config.id, _gym_ids()[config.id], **options))


def make(config: EnvConfig, first_stream: int) -> GymVecEnv:
    return GymVecEnv(
        config.id, config.num_envs, partial(_make_one, config), frames_per_step=config.vizdoom.frame_skip
    )
