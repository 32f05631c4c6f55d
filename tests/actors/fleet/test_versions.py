"""What counts as the same environment on two nodes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def _ask(code: str) -> str:
    """In a process of its own, since actors.nodes imports Ray, which reads its settings once."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_another_version_is_named_and_a_missing_package_is_not_a_difference() -> None:
    here = {"python": "3.11", "numpy": "2.4.6", "gymnasium": "1.4.0"}
    there = {"python": "3.12", "numpy": "2.4.6", "ale-py": "0.12.1"}
    shown = _ask(f"from actors.fleet.nodes import differences; print(differences({here}, {there}))")
    assert shown == "['python 3.12, here 3.11']"


def test_this_environment_is_read() -> None:
    import numpy

    shown = _ask(
        "from actors.fleet.nodes import versions; found = versions(); print(found['python'], found['numpy'])"
    )
    assert shown == f"{sys.version_info.major}.{sys.version_info.minor} {numpy.__version__}"
