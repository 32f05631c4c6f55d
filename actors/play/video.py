"""Video files, written by ffmpeg frame by frame: whole under their name, or not there at all."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from configs.schema import ConfigError

# One thread: the same frames make the same file on every machine. Half of the colours' resolution, as all
# players want it.
_MP4 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-threads", "1")
# Each frame has a palette of its own: one for all would need them all in memory.
_GIF = ("-vf", "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=none")
FORMATS = {".mp4": (*_MP4, "-movflags", "+faststart"), ".gif": _GIF}
PACKAGES = {"PIL": "pillow", "imageio_ffmpeg": "imageio-ffmpeg"}
"""What drawing and writing need, by import name."""


class VideoError(Exception):
    """A video that could not be written. The message names the file and the cause."""


def check_video(path: Path) -> None:
    """Raises ConfigError unless a video can be written to `path`: its ending, the packages, its folder."""
    if path.suffix not in FORMATS:
        raise ConfigError(f"video {path}: the name of a video ends in {' or '.join(FORMATS)}")
    missing = [package for name, package in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"a video needs {' and '.join(missing)}, not installed here: "
            f"`pip install -c constraints.txt {' '.join(PACKAGES.values())}`"
        )
    if path.is_dir():
        raise ConfigError(f"video {path}: this is a folder; name a file in it")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ConfigError(f"video {path} cannot be written: {error}") from error


class VideoFile:
    """A video under way. As a context manager: leaving it normally puts the whole video under its name, where
    it replaces an older one; leaving it by an error removes what was written."""

    def __init__(self, path: Path, fps: int) -> None:
        """`path`: one that `check_video` lets pass; its ending is the format."""
        self.path, self.fps, self.frames = path, fps, 0
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
        self._shape: tuple[int, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  (closed on leaving the context)

    def write(self, frame: NDArray[np.uint8]) -> None:
        """[H, W, 3], even in both directions, all of one size. Raises VideoError."""
        if self._process is None:
            self._shape, self._process = frame.shape, self._start(frame.shape[0], frame.shape[1])
        if frame.shape != self._shape:
            raise VideoError(f"{self.path}: a frame of {list(frame.shape)} after {list(self._shape)}")
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frame.tobytes())
        except BrokenPipeError as error:
            raise VideoError(f"{self.path}: {self._complaint()}") from error
        self.frames += 1

    def _start(self, height: int, width: int) -> subprocess.Popen[bytes]:
        import imageio_ffmpeg

        frames = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(self.fps))
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *frames, "-i", "-"]
        return subprocess.Popen(
            [*command, *FORMATS[self.path.suffix], str(self._partial)],
            stdin=subprocess.PIPE,
            stderr=self._messages,
        )

    def _complaint(self) -> str:
        """Ends ffmpeg, and tells what it said."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._messages.seek(0)
        return f"ffmpeg failed: {self._messages.read().decode(errors='replace').strip()}"

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        try:
            if process is None:
                assert kind is not None, "a video has frames"
            elif kind is None:
                process.communicate()
                if process.returncode != 0:
                    raise VideoError(f"{self.path}: {self._complaint()}")
                os.replace(self._partial, self.path)
            else:
                process.kill()
                process.communicate()
        finally:
            self._partial.unlink(missing_ok=True)
            self._messages.close()
