"""Reads a video back with the ffmpeg that imageio brings, each frame once."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray


def read_video(path: Path) -> NDArray[np.uint8]:
    """[frames, H, W, 3]. Raises AssertionError where ffmpeg cannot read it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "info", "-nostats", "-i", str(path)]
    output = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run([*command, *output], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    size = re.search(r"Stream #0:0.*?Video:.*?, (\d+)x(\d+)", done.stderr.decode())
    assert size is not None, done.stderr.decode()
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, int(size[2]), int(size[1]), 3)
