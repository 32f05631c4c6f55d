"""`launch.py eval` and `enjoy` by other terms than the run's own: overrides, checkpoints, progress."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import launch as launch_module

QUIET = ["--wandb.mode", "disabled", "--log-interval-s", "1e-9"]


def run(*arguments: str) -> int:
    try:
        return launch_module.main(list(arguments))
    except SystemExit as exit_:  # argparse, tyro
        assert isinstance(exit_.code, int)
        return exit_.code


@pytest.fixture(scope="module")
def tmaze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corridor of 20 steps; checkpoints of steps 0 and 320."""
    folder = tmp_path_factory.mktemp("tmaze") / "run"
    assert run("train", "memory_rtrl", "--total-steps", "320", "--run-dir", str(folder), *QUIET) == 0
    return folder


def evaluated(folder: Path, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    assert run("eval", str(folder), "--json", str(tmp_path / "result.json"), *arguments) == 0
    return json.loads((tmp_path / "result.json").read_text())


def test_another_env_than_the_trained_one_is_evaluated(tmaze: Path, tmp_path: Path) -> None:
    longer = ("--env.memory.length-min", "30", "--env.memory.length-max", "30", "--episodes", "4")
    result = evaluated(tmaze, tmp_path, *longer)
    assert result["lengths"] == [32] * 4 and result["protocol"]["memory.length_max"] == 30


def test_enjoy_films_the_env_that_it_is_told(
    tmaze: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = ("--env.memory.length-min", "30", "--env.memory.length-max", "30")
    assert run("enjoy", str(tmaze), *longer, "--out", str(tmp_path / "film.mp4")) == 0
    assert "33 frames, 32 steps" in capsys.readouterr().out


def test_any_checkpoint_is_evaluated(tmaze: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--episodes", "2")
    path = str(tmaze / "checkpoints" / "step_000000000000")
    steps = [evaluated(tmaze, tmp_path, *short, *more)["global_step"] for more in ((), ("--checkpoint", "0"))]
    assert steps == [320, 0]
    assert evaluated(tmaze, tmp_path, *short, "--checkpoint", path)["global_step"] == 0
    capsys.readouterr()
    assert run("eval", str(tmaze), "--checkpoint", "7") == 1
    assert "no checkpoint of step 7; there are: 0, 320" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--learning-rate", "1"], "unrecognized argument --learning-rate"),
        (["--env.no-such", "1"], "--env.no-such"),
        (["--env.memory.num-cues", "3"], "does not fit memory/tmaze as it is set here"),
        (["--env.sticky-actions", "0.25"], "env.sticky_actions = 0.25 cannot take effect"),
        (["--greedy", "--sampled"], "not allowed with argument"),
        (["--episodes", "0"], "eval.episodes = 0"),
        (["--eval.max-episode-steps", "0"], "eval.max_episode_steps = 0"),
    ],
)
def test_what_cannot_be_played_is_refused(
    tmaze: Path, arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("eval", str(tmaze), *arguments) == 2
    printed = capfd.readouterr()
    assert words in printed.err + printed.out and "Traceback" not in printed.err


def test_how_far_it_is_is_shown_on_standard_error(
    tmaze: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("actors.play.progress.LINE_INTERVAL_S", 0.0)
    assert run("eval", str(tmaze), "--episodes", "18") == 0
    printed = capsys.readouterr()
    assert "0 of 18 games, 16 steps" in printed.err and "18 of 18 games" in printed.err
    assert "of 18 games" not in printed.out
    assert run("enjoy", str(tmaze), "--episodes", "2", "--out", str(tmp_path / "film.mp4")) == 0
    assert "game 2 of 2, 44 of at most 5,000 steps" in capsys.readouterr().err
