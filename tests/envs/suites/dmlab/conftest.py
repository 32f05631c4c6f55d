from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.schema import DmlabConfig, EnvConfig
from envs.make import make_vec
from envs.suites.dmlab.env import DmlabVecEnv
from tests.envs.suites.dmlab.fake_deepmind_lab import COMPILE_VARIABLE, install
from tests.envs.suites.dmlab.playing import ROOM, Build


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs the stand-in; the file in which its engines say what they were made of. They leave nothing."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)  # which remembers the former
    monkeypatch.setenv(COMPILE_VARIABLE, str(tmp_path / "held_up"))
    return install(tmp_path, monkeypatch)


@pytest.fixture
def build(log: Path, tmp_path: Path) -> Iterator[Build]:
    made: list[DmlabVecEnv] = []

    def make(
        env_id: str = ROOM, num_envs: int = 1, actor_id: int = 0, num_threads: int = 1, **options: Any
    ) -> DmlabVecEnv:
        config = EnvConfig(
            id=env_id,
            num_envs=num_envs,
            num_threads=num_threads,
            dmlab=DmlabConfig(**{"reset_ahead": False} | options),
        )
        env = make_vec(config, first_stream=actor_id * num_envs)
        assert isinstance(env, DmlabVecEnv)
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()
    assert not list((tmp_path / "tmp").iterdir()), "an engine left its temporary folder"
