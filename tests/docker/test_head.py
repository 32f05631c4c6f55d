"""What the containers' programs decide, in this process: no engine is needed."""

from __future__ import annotations

import importlib.util
import json
import socket
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from configs.presets import preset
from configs.schema import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def program(name: str) -> ModuleType:
    """A program of docker/ as a module; the folder is no package, and its name is another project's."""
    spec = importlib.util.spec_from_file_location(f"docker_{name}", ROOT / "docker" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


head, actor, health, waiting = (program(name) for name in ("head", "actor", "health", "wait_for_cpus"))


def begun(runs: Path, name: str = "run", checkpoint: bool = True) -> Path:
    run_dir = runs / name
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "config.json").write_text(preset("memory_rtrl").to_json())
    if checkpoint:
        (run_dir / "checkpoints" / "step_000000000000").mkdir()
    return run_dir


def test_a_new_run_is_trained_and_one_that_is_there_goes_on(tmp_path: Path) -> None:
    words = ["memory_rtrl", "--seed", "2"]
    new = tmp_path / "new"
    assert head.train_command(words, new) == ["train", "memory_rtrl", "--seed", "2", "--run-dir", str(new)]
    old = begun(tmp_path)
    assert head.train_command(words, old) == ["train", "--resume", str(old), "--seed", "2"]


def test_a_run_of_another_preset_is_not_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"began as memory_rtrl, not cartpole_rtrl.*RUN=name"):
        head.train_command(["cartpole_rtrl"], begun(tmp_path))


def test_a_run_without_a_checkpoint_makes_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = begun(tmp_path, checkpoint=False)
    assert head.train_command(["memory_rtrl"], run_dir)[:2] == ["train", "memory_rtrl"]
    assert not run_dir.exists()
    (aside,) = tmp_path.iterdir()
    assert (aside / "config.json").is_file()
    assert str(aside) in capsys.readouterr().out


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


def plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "docker/head.py", "plan", *arguments]
    return subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": "."}, capture_output=True, text=True)


def test_a_plan_counts_the_cpus() -> None:
    assert plan("atari_breakout_rtrl").stdout.split() == ["48", "48"]
    evaluated = plan("atari_breakout_rtrl", "--num-actors", "40", "--eval.interval-steps", "1000")
    assert evaluated.stdout.split() == ["41", "40"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["atari_breakout"], "unknown preset"),
        (["atari_breakot_rtrl"], "Breakot"),
        (["atari_breakout_rtrl", "--num-actors", "8"], "can never be filled"),
        (["atari_breakout_rtrl", "--no-such-field", "8"], "no-such-field"),
        (["--seed", "1"], "PRESET"),
    ],
)
def test_a_bad_command_line_ends_before_anything_starts(arguments: list[str], said: str) -> None:
    result = plan(*arguments)
    assert result.returncode == 2
    assert said in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("word", ["--num-actors", "--num_actors", "--num-actors=8"])
def test_a_number_of_actors_is_seen(word: str) -> None:
    assert head.names_actors(["atari_breakout_rtrl", word])
    assert not head.names_actors(["atari_breakout_rtrl", "--num-envs", word.replace("actors", "x")])


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


def test_the_presets_saved_name_is_what_is_compared(tmp_path: Path) -> None:
    """`train_command` reads the file that launch.py writes."""
    saved = json.loads((begun(tmp_path) / "config.json").read_text())
    assert saved["preset"] == "memory_rtrl"
