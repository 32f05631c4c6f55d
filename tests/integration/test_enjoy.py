"""`launch.py enjoy`: real runs, their videos read back, and the video in a real W&B run file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import launch as launch_module
from actors.play.frames import CURVE, CURVE_HEIGHT
from learner.records.run_dir import RunDir
from tests.actors.play.video_reader import read_video
from tests.learner.records.wandb_reader import read_history, run_files

KEY = "fedcba9876543210" * 5


def run(*arguments: str) -> int:
    try:
        return launch_module.main(list(arguments))
    except SystemExit as exit_:  # argparse
        assert isinstance(exit_.code, int)
        return exit_.code


def _train(preset: str, run_dir: Path, wandb: str, *more: str) -> Path:
    small = ("--runtime", "inline", "--num-actors", "1", "--total-steps", "320", "--wandb.mode", wandb)
    assert run("train", preset, "--run-dir", str(run_dir), *small, *more) == 0
    return run_dir


@pytest.fixture(scope="module")
def breakout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Games of 75 steps at most."""
    folder = tmp_path_factory.mktemp("breakout") / "run"
    short = ("--env.max-episode-frames", "300", "--env.num-envs", "4", "--batch-size", "4")
    return _train("atari_breakout_rtrl_cpu", folder, "offline", *short)


@pytest.fixture(scope="module")
def tmaze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train("memory_rtrl", tmp_path_factory.mktemp("tmaze") / "run", "disabled")


def _told(printed: str) -> tuple[int, int]:
    """Frames and steps, as printed."""
    found = re.search(r"(\d+) frames, (\d+) steps", printed)
    assert found is not None, printed
    return int(found[1]), int(found[2])


def _heights_of_the_curve(video: np.ndarray) -> list[float]:
    """Of its newest point in each frame."""
    newest = []
    for frame in video[:, -CURVE_HEIGHT - 12 :].astype(int):
        points = np.argwhere(np.all(np.abs(frame - CURVE) < 70, axis=-1))
        newest.append(points[points[:, 1] >= points[:, 1].max() - 2][:, 0].mean())
    return newest


def test_a_game_of_breakout_is_filmed_whole(breakout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("enjoy", str(breakout), "--sampled", "--seed", "3") == 0
    frames, steps = _told(capsys.readouterr().out)
    video = read_video(breakout / "step_000000000320.mp4")
    assert video.shape == (frames, 504 + 128, 504, 3) and frames == steps + 1 > 40
    assert (video[1:] != video[:-1]).any((1, 2, 3)).all(), "every frame differs from the one before"
    game = video[:, :504].reshape(frames, 84, 6, 84, 6, 3)
    assert game.std((2, 4)).mean() < 3, "each pixel of the screen is a square of 6 by 6"
    assert np.ptp(_heights_of_the_curve(video)) > CURVE_HEIGHT / 2, "the value goes up and down"


def test_the_same_seed_makes_the_same_file(breakout: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4")]
    for path, seed in zip(files, ("3", "3", "4"), strict=True):
        short = ("--sampled", "--max-steps", "12", "--out", str(path))
        assert run("enjoy", str(breakout), *short, "--seed", seed) == 0
    a, b, c = (path.read_bytes() for path in files)
    assert a == b != c


def test_a_gif_and_the_steps_at_most(
    breakout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "film.gif"
    assert run("enjoy", str(breakout), "--max-steps", "15", "--out", str(path)) == 0
    printed = capsys.readouterr().out
    assert _told(printed) == (15, 15) and "cut off by --max-steps" in printed
    video = read_video(path)
    assert video.shape == (15, 632, 504, 3) and (video[1:] != video[:-1]).any((1, 2, 3)).all()


def test_a_task_of_numbers_is_a_heat_map(
    tmaze: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "film.mp4"
    assert run("enjoy", str(tmaze), "--episodes", "2", "--sampled", "--out", str(path)) == 0
    assert _told(capsys.readouterr().out) == (2 * 23, 2 * 22), "22 steps a game, and its last observation"
    video = read_video(path)
    assert len(video) == 46 and (video[1:] != video[:-1]).any((1, 2, 3)).all()
    drawn = (video[:, :300].max(-1) > 120).any(1)  # columns with something in them
    assert drawn[1].sum() < drawn[10].sum() < drawn[22].sum() > drawn[23].sum(), "it scrolls, and begins anew"


@pytest.fixture
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings or login of whoever runs the tests; a key, which must not be written down."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def _logged(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("_")}


@pytest.mark.usefixtures("no_account")
def test_the_video_is_in_the_run_s_w_and_b_run(breakout: Path, tmp_path: Path) -> None:
    path, metrics = tmp_path / "film.mp4", breakout / "metrics.jsonl"
    before = metrics.read_bytes()
    metrics.write_bytes(before + b'{"global_step": 3')  # as a kill leaves it
    files = run_files(breakout)
    assert run("enjoy", str(breakout), "--max-steps", "5", "--out", str(path), "--wandb") == 0
    assert metrics.read_bytes() == before
    assert run_files(breakout)[:-1] == files
    newest = run_files(breakout)[-1]
    assert newest.name == f"run-{(breakout / 'wandb_run_id').read_text().strip()}.wandb"
    *rows, last = [_logged(row) for row in read_history(newest)]
    kept = [json.loads(line) for line in before.splitlines()]
    assert rows == [{name: v for name, v in row.items() if name != "wall_time"} for row in kept]
    assert last["global_step"] == 320 and last["video/policy/_type"] == "video-file"
    assert (newest.parent / "files" / last["video/policy/path"]).read_bytes() == path.read_bytes()
    everything = [file for file in breakout.rglob("*") if file.is_file() and not file.is_symlink()]
    assert not [file for file in everything if KEY.encode() in file.read_bytes()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--episodes", "0"], "--episodes 0: needs at least 1"),
        (["--max-steps", "0"], "--max-steps 0: needs at least 1"),
        (["--fps", "-1"], "--fps -1: needs at least 1"),
        (["--out", "film.avi"], "ends in .mp4 or .gif"),
        (["--out", "nowhere/film.mp4"], "cannot be written"),
        (["--wandb"], "has no W&B run: wandb.mode = 'disabled'"),
        (["--episodes", "few"], "invalid int value: 'few'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_played(
    tmaze: Path, arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in tmaze.rglob("*") if path.is_file()}
    assert run("enjoy", str(tmaze), *arguments) == 2
    printed = capfd.readouterr().err
    assert words in printed and "Traceback" not in printed
    assert {path: path.read_bytes() for path in tmaze.rglob("*") if path.is_file()} == before


def test_a_run_without_a_checkpoint_is_refused(
    tmaze: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("enjoy", str(tmp_path)) == 2
    assert "not a run directory" in capfd.readouterr().err
    (tmp_path / "config.json").write_bytes((tmaze / "config.json").read_bytes())
    assert run("enjoy", str(tmp_path)) == 1
    assert str(tmp_path / "checkpoints") in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_run_that_trains_can_be_watched_but_its_w_and_b_run_is_taken(
    tmaze: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    holder = RunDir.open(tmaze)
    try:
        assert run("enjoy", str(tmaze), "--max-steps", "2", "--out", str(tmp_path / "film.mp4")) == 0
        assert run("enjoy", str(tmaze), "--wandb") == 2
        assert "in use by another process" in capfd.readouterr().err
    finally:
        holder.release()
