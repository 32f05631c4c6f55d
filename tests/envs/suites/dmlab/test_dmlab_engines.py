"""Engine processes of DeepMind Lab: what they say when they fail, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from configs.schema import EnvConfig
from envs.make import check_env, env_spec
from envs.spec import EnvError
from envs.suites.dmlab import process as dmlab_process
from tests.envs.suites.dmlab.playing import FORWARD, GOALS, STEPS, Build, everyone, logged
from tests.integration.cli import runs, wait_until

ROOT = Path(__file__).resolve().parents[4]
pytestmark = pytest.mark.usefixtures("log")


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if runs(one)]


def compiling(process: psutil.Process) -> list[psutil.Process]:
    """All that runs below it, from the moment that a map is being compiled there."""
    wait_until(lambda: any(one.name() == "sleep" for one in process.children(recursive=True)))
    return process.children(recursive=True)


# --- what they say -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("no_such_level", "RuntimeError: Failed to init environment"),
        (
            "fake_lua_error",
            "fake_lua_error.lua: cannot be loaded.*last words:\n.*:7: '=' expected near",
        ),
    ],
)
def test_a_level_that_does_not_load_is_refused(level: str, words: str) -> None:
    config = EnvConfig(id=f"dmlab/tests/{level}", num_envs=2)
    check_env(config)  # which levels there are, only the engine knows
    with pytest.raises(EnvError, match=f"(?s){words}") as caught:
        env_spec(config)
    assert f"dmlab/tests/{level}, stream 0: the engine failed" in str(caught.value)


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (
            "fake_step_error",
            'ValueError: Failed to advance environment "attempt to index a nil value"; '
            "its last words:\nWARNING: Cvar_Set2: nil",
        ),
        ("fake_abort", r"exit code -6 \(SIGABRT\); its last words:\n.*ERROR: Hunk_Alloc failed"),
        ("fake_exit", "exit code 3; it printed nothing"),
    ],
)
def test_an_engine_that_fails_says_why(build: Build, level: str, words: str) -> None:
    env = build(f"dmlab/tests/{level}", num_envs=2, actor_id=5)
    env.reset(0)
    pids = env.engine_pids()
    with pytest.raises(EnvError, match=rf"(?s)stream 10: the engine.*{words}"):
        for _ in range(STEPS):
            env.step(everyone(FORWARD, env))
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(ValueError, match="call reset"):
        env.step(everyone(FORWARD, env))


def test_an_engine_that_was_killed_is_missed_at_once(build: Build) -> None:
    env = build(num_envs=2)
    env.reset(0)
    os.kill(env.engine_pids()[1], signal.SIGKILL)
    with pytest.raises(EnvError, match=r"stream 1.* -9 \(SIGKILL\)"):
        for _ in range(2):
            env.step(everyone(FORWARD, env))


def test_an_engine_may_print_as_much_as_it_likes(build: Build) -> None:
    env = build("dmlab/tests/fake_chatter")
    env.reset(0)
    for _ in range(40):
        env.step(np.zeros(1, np.int64))


def test_without_zip_no_engine_opens(build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvError, match=r"stream 0: .*the program 'zip' is not on .*apt-get install zip"):
        build(GOALS)


def test_a_level_with_other_actions_is_refused(build: Build) -> None:
    with pytest.raises(EnvError, match=r"custom_actions_test.*cannot be played: .*CROUCH, SWITCH_GADGET"):
        build("dmlab/tests/custom_actions_test")


def test_a_dataset_that_is_no_folder_is_refused_before_any_engine_starts(
    build: Build, log: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    with pytest.raises(EnvError, match=rf"env\.dmlab\.dataset_path = '{images}' is no folder"):
        build("dmlab/psychlab_continuous_recognition", dataset_path=str(images))
    assert not log.exists()
    images.mkdir()
    build("dmlab/psychlab_continuous_recognition", dataset_path=str(images)).reset(0)


def test_the_renderer_has_the_actors_threads(build: Build, log: Path) -> None:
    build()
    build(num_threads=3)
    assert [line["renderer_threads"] for line in logged(log)] == ["1", "3"]


# --- what is left of them ----------------------------------------------------------------------------


def test_a_stuck_engine_is_killed_at_the_end(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dmlab_process, "CLOSING_S", 0.2)
    env = build("dmlab/tests/fake_hang")
    env.reset(0)
    (pid,) = env.engine_pids()
    env._engines[0].send("step", (0,) * 7, 4)
    env._engines[0]._owed = 0  # as if it were stuck in closing itself
    env.close()
    assert not psutil.pid_exists(pid)


def test_the_temporary_folder_goes_with_the_engine(build: Build, log: Path, tmp_path: Path) -> None:
    env = build(GOALS)
    env.reset(0)
    folder = Path(logged(log)[0]["temp_folder"])
    assert folder.parent == tmp_path / "tmp" and list(folder.rglob("*.pk3"))
    env.close()
    assert not folder.exists()


def test_closing_ends_a_compilation_at_once(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dmlab_process, "CLOSING_S", 10_000.0)
    (tmp_path / "held_up.5").touch()
    env = build(GOALS)
    engine = psutil.Process(env.engine_pids()[0])
    env._engines[0].send("reset", 5)
    below = compiling(engine)
    env.close()
    assert alive([engine, *below]) == []


def test_an_engine_killed_in_a_compilation_takes_it_along(build: Build, tmp_path: Path) -> None:
    (tmp_path / "held_up.5").touch()
    env = build(GOALS)
    engine = psutil.Process(env.engine_pids()[0])
    env._engines[0].send("reset", 5)
    below = compiling(engine)
    engine.kill()
    with pytest.raises(EnvError, match=r"-9 \(SIGKILL\)"):
        env._engines[0].receive()
    assert alive([engine, *below]) == []


def test_a_signal_to_all_processes_of_a_job_leaves_the_engines_to_their_actor(build: Build) -> None:
    env = build()
    env.reset(0)
    engine = psutil.Process(env.engine_pids()[0])
    for process in (engine, *engine.parents()[:2]):
        for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(stop)
    env.step(everyone(FORWARD, env))


PLAYS = """
import numpy as np
from configs.schema import EnvConfig
from envs.make import make_vec
env = make_vec(EnvConfig(id="{level}"))
env._engines[0].send("reset", 5)
env._engines[0].receive()
env._engines[0].send("step", (0,) * 7, 4)
print("stuck", flush=True)
env._engines[0].receive()
"""


@pytest.mark.parametrize("children_first", [False, True], ids=["actor", "children_first"])
@pytest.mark.parametrize("level", ["dmlab/tests/fake_hang", GOALS], ids=["stuck", "compiling"])
def test_nothing_of_an_engine_outlives_its_actor(tmp_path: Path, level: str, children_first: bool) -> None:
    (tmp_path / "held_up.5").touch()
    actor = subprocess.Popen(
        [sys.executable, "-c", PLAYS.format(level=level)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "lib")])},
        cwd=tmp_path,
    )
    with actor:
        if level == GOALS:
            below = compiling(psutil.Process(actor.pid))
            assert len(below) == 6, "keeper and its parent, engine, shell, tool, sleep"
        else:
            assert actor.stdout is not None and actor.stdout.readline() == b"stuck\n"
            below = psutil.Process(actor.pid).children(recursive=True)
            assert len(below) == 3
        if children_first:  # as Ray does
            for child in psutil.Process(actor.pid).children():
                child.kill()
        actor.kill()
    wait_until(lambda: not alive(below) and not list((tmp_path / "tmp").iterdir()))
