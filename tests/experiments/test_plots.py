"""Figures need no display and no backend, whatever the environment asks matplotlib for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DRAW = """
import os, sys
from pathlib import Path

child = os.fork()  # each importer of matplotlib by itself
if child == 0:
    from benchmarks.kernels_report import _plot
    row = {"precision": "ieee", "T": 2, "B": 2, "N": 4, "ms": 1.0, "cpu_ms": 1.0}
    _plot(Path("kernels.png"), [row | {"way": way} for way in ("TBPTT", "exact RTRL")])
else:
    assert os.waitpid(child, 0)[1] == 0
    from experiments.curves.plot import _draw
    _draw(Path("curve"), [lambda axes: axes.plot([1, 2])], "a caption")
assert "matplotlib.pyplot" not in sys.modules
assert os.environ["MPLBACKEND"] == "module://matplotlib_inline.backend_inline", "it is the children's too"
"""


def test_a_backend_that_is_not_here_does_not_matter(tmp_path: Path) -> None:
    """As in a terminal that a notebook has opened."""
    notebook = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DRAW]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | notebook, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"kernels.png", "curve.png", "curve.svg"}
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
