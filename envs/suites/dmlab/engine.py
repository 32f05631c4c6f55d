"""A DeepMind Lab engine in a process of its own, stepped by requests that come through a socket.

A request is (command, arguments), a reply ("done", result) or ("error", text). After an error, and when
the other side closes the socket, the process ends. The engine keeps global state, so that a process can
hold one engine only, and it may abort, which takes its process with it: hence a process each (keeper.py).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from envs.suites.dmlab.actions import ACTION_SPEC


class LevelCache:
    """Compiled maps in a folder, for all engines that see it. The engine calls `fetch` and `write`."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """A key may hold characters that no file name can, so its hash names the file."""
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.pk3"

    def fetch(self, key: str, pk3_path: str) -> bool:
        """Copies the map to `pk3_path`; False if the cache does not have it.

        Raises ValueError for a file that is no map: the engine's answer to one is to exit.
        """
        path = self.path(key)
        try:
            shutil.copyfile(path, pk3_path)
        except FileNotFoundError:
            return False
        try:
            with zipfile.ZipFile(pk3_path) as archive:
                damaged = archive.testzip() is not None
                whole = any(name.endswith(".bsp") for name in archive.namelist())
        except zipfile.BadZipFile:
            damaged, whole = True, False
        if damaged or not whole:
            raise ValueError(f"the level cache holds a damaged map: remove {path}, it is compiled anew then")
        return True

    def write(self, key: str, pk3_path: str) -> None:
        """Keeps the map that the engine has compiled. It appears whole or not at all."""
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, suffix=".partial")
        os.close(descriptor)
        try:
            shutil.copyfile(pk3_path, temporary)
            os.chmod(temporary, 0o644)  # mkstemp's files are its user's alone; a cache is shared
            os.replace(temporary, self.path(key))
        except OSError:
            os.unlink(temporary)
            raise


class Engine:
    """What the requests call."""

    def __init__(
        self,
        level: str,
        observations: list[str],
        settings: dict[str, str],
        renderer: str,
        level_cache: str | None,
        temp_folder: str,
    ) -> None:
        if shutil.which("zip") is None:
            raise FileNotFoundError(
                "the program 'zip' is not on this machine's PATH; the engine packs the maps that it compiles "
                "by it: apt-get install zip"
            )
        # Here, so that whatever it raises is told to the other side.
        import deepmind_lab  # pyright: ignore[reportMissingImports]

        self._lab: Any = deepmind_lab.Lab(
            level,
            observations,
            config=settings,
            renderer=renderer,
            level_cache=None if level_cache is None else LevelCache(level_cache),
            temp_folder=temp_folder,
        )
        actions = tuple(action["name"] for action in self._lab.action_spec())
        if actions != ACTION_SPEC:
            raise ValueError(
                f"this level cannot be played: its actions are {', '.join(actions)}, where env.dmlab.actions "
                f"has values for {', '.join(ACTION_SPEC)}"
            )

    def reset(self, seed: int) -> dict[str, Any]:
        """The first observations of a new episode, by the engine's names."""
        self._lab.reset(seed=seed)
        return self._lab.observations()

    def step(self, action: tuple[int, ...], frames: int) -> tuple[float, dict[str, Any] | None]:
        """The reward summed over the frames, and the observations; None after the end, which has none."""
        reward = self._lab.step(np.array(action, np.intc), num_steps=frames)
        return reward, self._lab.observations() if self._lab.is_running() else None

    def close(self) -> None:
        self._lab.close()


def serve(connection: Connection, temp_folder: str) -> None:
    """Answers requests until the other side closes. The first one is ("open", arguments of Engine), without
    `temp_folder`: where the engine compiles maps. The reply to it is the engine's process id."""
    engine: Engine | None = None
    try:
        while True:
            try:
                command, arguments = connection.recv()
            except EOFError:
                return
            try:
                if engine is None:
                    engine, result = Engine(*arguments, temp_folder=temp_folder), os.getpid()
                else:
                    result = getattr(engine, command)(*arguments)
            except Exception as error:
                connection.send(("error", f"{type(error).__name__}: {error}"))
                return
            connection.send(("done", result))
    finally:
        if engine is not None:
            engine.close()
