"""What the containers' programs decide, in this process: no engine is needed."""

from __future__ import annotations

import importlib.util
import io
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from command_line import asked_to_train
from configs.machine import available_cores
from configs.presets import preset
from configs.schema import ConfigError
from learner.records import checkpoint
from learner.records.run_dir import RunDirError

ROOT = Path(__file__).resolve().parents[2]


def program(name: str) -> ModuleType:
    """A program of docker/ as a module; the folder is no package, and its name is another project's."""
    spec = importlib.util.spec_from_file_location(f"docker_{name}", ROOT / "docker" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


head, actor, health, waiting = (program(name) for name in ("head", "actor", "health", "wait_for_cpus"))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The volume `runs`, with a run of memory_rtrl, seed 1, in it."""
    monkeypatch.setattr(head, "RUNS", tmp_path)
    monkeypatch.setenv("RUN", "")
    checkpoint.save(tmp_path / "memory_rtrl" / "checkpoints", 80, {}, {}, keep_last=1)
    (tmp_path / "memory_rtrl" / "config.json").write_text(preset("memory_rtrl").to_json())
    return tmp_path


def test_a_run_has_the_name_of_its_preset_or_another(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = head.in_volume(["memory_rtrl", "--num-actors", "1"])
    assert words[-3:] == ["--run-dir", str(runs / "memory_rtrl"), "--auto-resume"]
    assert asked_to_train(words).resume, "what is there goes on"
    monkeypatch.setenv("RUN", "other")
    assert not asked_to_train(head.in_volume(["memory_rtrl", "--seed", "2"])).resume
    (runs / "other" / "checkpoints" / ".tmp-step_000000000000").mkdir(parents=True)
    assert not asked_to_train(head.in_volume(["memory_rtrl"])).resume, "a hidden folder is no checkpoint"


@pytest.mark.parametrize("train", ["memory_rtrl --seed 2", "memory_rtrl --learning-rate 0.5"])
def test_another_run_of_that_name_is_refused_before_ray_starts(
    train: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAIN", train)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(runs / "token"))
    with pytest.raises(RunDirError, match="holds another run"):
        head.main([])
    assert [path.name for path in runs.iterdir()] == ["memory_rtrl"]


def test_the_token_is_its_owners_alone_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "ray"
    (tmp_path / "ray.partial").write_text("of a head that was killed")
    head.make_token(path)
    token = path.read_text()
    assert len(bytes.fromhex(token)) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    head.make_token(path)
    assert path.read_text() == token
    head.make_token(tmp_path / "other")
    assert (tmp_path / "other").read_text() != token


def test_the_key_is_its_owners_alone_and_the_learners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "wandb"
    monkeypatch.setenv("WANDB_API_KEY_FILE", str(path))
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.delenv("WANDB_API_KEY")  # and afterwards what it was
    head.read_key(path)
    assert "WANDB_API_KEY" not in os.environ, "none was given"
    for key in ("a" * 40, "b" * 40):  # a new one takes its place
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{key}\n"))
        assert head.main(["key"]) == 0
        assert path.read_text() == key and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    head.read_key(path)
    assert os.environ["WANDB_API_KEY"] == "b" * 40


@pytest.mark.parametrize("given", ["", " \n", "two words\n"])
def test_what_is_no_key_is_refused(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY_FILE", str(tmp_path / "wandb"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    with pytest.raises(ConfigError, match="one word, and nothing else"):
        head.main(["key"])
    assert list(tmp_path.iterdir()) == []


def plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "docker/head.py", "plan", *arguments]
    return subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": "."}, capture_output=True, text=True)


def test_a_plan_counts_the_cpus() -> None:
    cores = str(available_cores())
    assert plan("atari_breakout_rtrl").stdout.split() == [cores, cores]
    evaluated = plan("atari_breakout_rtrl", "--num-actors", "40", "--eval.interval-steps", "1000")
    assert evaluated.stdout.split() == ["41", "40"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["atari_breakout"], "unknown preset"),
        (["atari_breakot_rtrl"], "Breakot"),
        (["atari_breakout_rtrl", "--num-streams", "8"], "can never be filled"),
        (["atari_breakout_rtrl", "--no-such-field", "8"], "no-such-field"),
        (["--seed", "1"], "PRESET"),
    ],
)
def test_a_bad_command_line_ends_before_anything_starts(arguments: list[str], said: str) -> None:
    result = plan(*arguments)
    assert result.returncode == 2
    assert said in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


class Time:
    """A clock that sleeping moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_known_number_of_cpus_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    time = Time()
    cpus = waiting.wait(8, lambda: 2 if time() < 65 else 9, time, time.sleep)
    assert (cpus, time()) == (9, 65)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "offer 2 CPUs, the run needs 8" in lines[0]


def test_an_unknown_number_of_cpus_is_what_there_is_when_no_more_come() -> None:
    time = Time()
    cpus = waiting.wait(0, lambda: min(4, int(time() // 5)), time, time.sleep)  # 4 from second 20 on
    assert (cpus, time()) == (4, 20 + waiting.SETTLED_S)


def test_a_head_is_found_when_it_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert actor.answers("127.0.0.1", port, 5)
    assert not actor.answers("127.0.0.1", port, 0)


def test_a_node_without_a_raylet_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health.psutil, "process_iter", lambda _attributes: iter(()))
    assert health.fault("127.0.0.1", 1) == "no raylet runs in this container"
