"""The folder of a Ray session: whose it is, and how long its path may be."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from actors.fleet import cluster
from actors.fleet.session_folder import PREFIX, session_parent
from configs.schema import ConfigError
from tests.integration.cli import PATIENCE_S, runs

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys
from actors.fleet.session_folder import session_folder
with session_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""
SWEEP = "from actors.fleet.session_folder import session_folder\nwith session_folder(): pass"
ELSEWHERE = ("unshare", "--pid", "--fork", "--mount-proc")
"""In another pid namespace, as in another container."""
CAN_UNSHARE = subprocess.run([*ELSEWHERE, "true"], capture_output=True).returncode == 0
RAY = """
from actors.fleet.cluster import ray_session
from configs.schema import RayConfig
with ray_session(RayConfig(object_store_mib=100), num_cpus=1):
    import ray
    print("started", ray.is_initialized())
"""


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary folder with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="et", dir="/tmp") as folder:
        yield Path(folder)


def python(code: str, temporary: Path, *before: str) -> list[str]:
    return [*before, "env", f"TMPDIR={temporary}", sys.executable, "-c", code]


@pytest.mark.parametrize(
    "before",
    [
        (),
        pytest.param(
            ELSEWHERE, marks=pytest.mark.skipif(not CAN_UNSHARE, reason="unshare --pid is not permitted here")
        ),
    ],
    ids=["the same pid namespace", "another pid namespace"],
)
def test_a_folder_is_removed_when_its_owner_is_gone_and_not_before(
    before: tuple[str, ...], short: Path
) -> None:
    with subprocess.Popen(
        python(HOLD, short, *before), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None and owner.stdin is not None
        folder = Path(owner.stdout.readline().strip())
        assert folder.parent == short
        for there in (before, ()):
            subprocess.run(python(SWEEP, short, *there), cwd=ROOT, check=True)
            assert folder.is_dir(), "its owner lives"
        for process in psutil.Process(owner.pid).children(recursive=True) or [owner]:
            process.kill()
        owner.wait()
        assert folder.is_dir(), "killed, it removes nothing"
        subprocess.run(python(SWEEP, short), cwd=ROOT, check=True)
        assert not folder.exists()


def test_what_has_no_lock_is_not_ours_to_judge(short: Path) -> None:
    (short / f"{PREFIX}other").mkdir()
    subprocess.run(python(SWEEP, short), cwd=ROOT, check=True)
    assert [path.name for path in short.iterdir()] == [f"{PREFIX}other"], "and its own is gone"


@pytest.mark.parametrize("length", [4, 12, 35, 60, 200])
def test_a_socket_below_it_has_a_path_that_linux_takes(length: int, tmp_path: Path) -> None:
    parent = Path("/" + "x" * (length - 1))
    found = session_parent(parent)
    socket = f"{found}/{PREFIX}12345678/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
    assert len(socket) <= 107
    assert found == (parent if length <= 12 else Path("/tmp"))
    if length > 12:
        with pytest.raises(ConfigError, match=rf"TMPDIR = '{parent}': too long.*at most \d+ bytes"):
            session_parent(parent, short=tmp_path / "nowhere")


@pytest.mark.ray
def test_ray_starts_below_a_long_temporary_folder(tmp_path: Path) -> None:
    """35 characters and more, as a SLURM job's may have."""
    temporary = tmp_path / ("x" * 40)
    temporary.mkdir()
    done = subprocess.run(python(RAY, temporary), cwd=ROOT, capture_output=True, text=True)
    assert "started True" in done.stdout, done.stderr


def test_what_a_session_has_begun_ends_with_it() -> None:
    """Also what is stopped, and hears of no end; and what comes from it, though its parent ends first."""
    sleeper = "subprocess.Popen(['sleep', '1000'], stdout=subprocess.DEVNULL)"
    code = f"import subprocess, sys; print({sleeper}.pid, flush=True); sys.stdin.read()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    try:
        family = cluster._families([psutil.Process(parent.pid)])
        child.suspend()
        parent.communicate(timeout=PATIENCE_S)
        assert child.status() == psutil.STATUS_STOPPED
        cluster._end(family, 0.2)
        assert not runs(child), "_end has waited for it"
    finally:
        with suppress(psutil.NoSuchProcess):
            child.kill()
