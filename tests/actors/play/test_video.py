"""Video files: every frame is in them, and a file is whole or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from actors.play.video import VideoError, VideoFile, check_video
from tests.actors.play.video_reader import read_video

SHAPE = (60, 96, 3)


def _frames(count: int) -> list[np.ndarray]:
    """Grey levels that rise, with a white square that moves."""
    frames = [np.full(SHAPE, 40 + 4 * i, np.uint8) for i in range(count)]
    for i, frame in enumerate(frames):
        frame[20:40, 4 * i : 4 * i + 20] = 255
    return frames


def _write(path: Path, frames: list[np.ndarray]) -> None:
    with VideoFile(path, fps=15) as video:
        for frame in frames:
            video.write(frame)
    assert video.frames == len(frames)


@pytest.mark.parametrize(("name", "tolerance"), [("film.mp4", 12), ("film.gif", 4)])
def test_every_frame_is_in_the_file(tmp_path: Path, name: str, tolerance: int) -> None:
    frames = _frames(18)
    _write(tmp_path / name, frames)
    read = read_video(tmp_path / name)
    assert read.shape == (18, *SHAPE)
    difference = np.abs(read.astype(int) - np.stack(frames).astype(int))
    assert difference.mean(axis=(1, 2, 3)).max() < tolerance
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_the_same_frames_make_the_same_file(tmp_path: Path, name: str) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        _write(tmp_path / folder / name, _frames(5))
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("frames_before", [0, 3])
def test_an_error_leaves_the_older_file_as_it_was(tmp_path: Path, frames_before: int) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError, match="the game broke"), VideoFile(path, fps=15) as video:
        for frame in _frames(frames_before):
            video.write(frame)
        raise RuntimeError("the game broke")
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]
    assert path.read_bytes() == b"older"


def test_frames_have_one_size(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"a frame of \[62, 96, 3\] after \[60, 96, 3\]"):
        _write(tmp_path / "film.mp4", [*_frames(2), np.zeros((62, 96, 3), np.uint8)])
    assert list(tmp_path.iterdir()) == []


def test_what_ffmpeg_complains_about_is_told(tmp_path: Path) -> None:
    odd = np.zeros((61, 97, 3), np.uint8)
    with pytest.raises(VideoError, match=r"(?s)film.mp4: ffmpeg failed: .*not divisible by 2"):
        _write(tmp_path / "film.mp4", [odd] * 2)
    with pytest.raises(VideoError, match=r"(?s)film.mp4: ffmpeg failed: .*not divisible by 2"):
        _write(tmp_path / "film.mp4", [odd] * 2000)  # more than a pipe holds: writing itself fails
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("film.avi", "ends in .mp4 or .gif"),
        ("film", "ends in .mp4 or .gif"),
        ("nowhere/film.mp4", "cannot be written: .*No such file or directory"),
        ("file/film.mp4", "cannot be written: .*Not a directory"),
        ("folder.mp4", "is a folder"),
    ],
)
def test_a_path_that_no_video_can_have(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=words):
        check_video(tmp_path / path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.mp4"]


@pytest.mark.parametrize(("module", "package"), [("PIL", "pillow"), ("imageio_ffmpeg", "imageio-ffmpeg")])
def test_a_missing_package_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ValueError, match=f"needs {package}, not installed here: `pip install -c constraints.txt pillow"
    ):
        check_video(tmp_path / "film.mp4")


def test_ffmpeg_does_not_outlive_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr("actors.play.video.subprocess.Popen", Noted)
    with pytest.raises(KeyboardInterrupt), VideoFile(tmp_path / "film.mp4", fps=15) as video:
        video.write(_frames(1)[0])
        raise KeyboardInterrupt
    assert len(started) == 1 and started[0].returncode is not None
