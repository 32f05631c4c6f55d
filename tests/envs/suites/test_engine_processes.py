"""Which suites start processes, and that these die with the process that started them."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import pytest

from configs.env import ProcgenBackend
from configs.schema import EnvConfig, ProcgenConfig
from envs.make import make_vec
from envs.spec import EnvError
from tests.envs.suites.procgen.procgen_backends_here import mirror_can_be_imported, need
from tests.integration.cli import runs, wait_until

ROOT = Path(__file__).resolve().parents[3]

PLAYS = """
import psutil
import numpy as np
from configs.schema import EnvConfig
from envs.make import make_vec
env = make_vec(EnvConfig(id="vizdoom/MyWayHome", num_envs=2))
env.reset(0)
env.step(np.zeros(2, np.int64))
print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
while True:
    env.step(np.zeros(2, np.int64))
"""


def wait_until_gone(processes: list[psutil.Process]) -> None:
    """They may outlive the process that started them by as long as the kernel takes."""
    wait_until(lambda: not any(map(runs, processes)))


def test_vizdooms_engines_die_with_a_killed_worker(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    worker = subprocess.Popen(
        [sys.executable, "-c", PLAYS],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    with worker:
        assert worker.stdout is not None
        engines = [psutil.Process(int(pid)) for pid in worker.stdout.readline().split()]
        assert [Path(engine.exe()).name for engine in engines] == ["vizdoom"] * 2, "nothing stands between"
        worker.kill()
    wait_until_gone(engines)
    assert not list(tmp_path.iterdir())


def test_vizdoom_needs_a_folder_where_programs_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vizdoom")
    access = os.access  # what it says of a file on a file system that is mounted noexec
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.X_OK and access(path, mode))
    env = make_vec(EnvConfig(id="vizdoom/MyWayHome"))
    with pytest.raises(EnvError, match=r"no program may run in /.*set TMPDIR"):
        env.reset(0)
    env.close()


@pytest.mark.parametrize(
    ("env_id", "package"),
    [
        ("ALE/Breakout-v5", "ale_py"),
        ("procgen/chaser", "envpool"),
        ("procgen/chaser", "procgen"),
        ("mujoco/Hopper-P", "mujoco"),
        ("minigrid/MemoryS7", "minigrid"),
        ("popgym/RepeatFirstEasy", "popgym"),
        ("CartPole-v1", "gymnasium"),
    ],
)
@mirror_can_be_imported()
def test_these_suites_start_no_process(env_id: str, package: str) -> None:
    config = EnvConfig(id=env_id, num_envs=2)
    if env_id.startswith("procgen/"):
        need(package)
        config = dataclasses.replace(config, procgen=ProcgenConfig(backend=cast(ProcgenBackend, package)))
    else:
        pytest.importorskip(package)
    before = set(psutil.Process().children(recursive=True))
    env = make_vec(config)
    env.reset(0)
    shape = (2, env.spec.num_actions) if env.spec.continuous_actions else (2,)
    env.step(np.zeros(shape, np.float32 if env.spec.continuous_actions else np.int64))
    assert set(psutil.Process().children(recursive=True)) == before
    env.close()
