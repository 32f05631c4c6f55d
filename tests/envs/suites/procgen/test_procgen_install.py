"""What ProcGen says where it cannot run, or not as asked; and that this is what `make` installs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.schema import EnvConfig, ProcgenConfig
from envs.doctor import diagnose, report
from envs.make import check_env
from envs.spec import EnvError
from envs.suites.procgen import backends as procgen_backends
from envs.suites.procgen.env import obstacle
from tests.envs.suites.procgen.procgen_backends_here import MIRROR, ROOT, mirror_can_be_imported, need

NO_ENVPOOL = "the package 'envpool' is not installed: pip install -c constraints.txt envpool"
NO_PROCGEN = "the package 'procgen' is not installed: pip install --no-deps procgen-mirror==0.10.7 gym3=="
NO_QT = "libQt5Gui.so.5: apt-get install -y --no-install-recommends libqt5gui5"


@pytest.fixture(scope="module", autouse=True)
def mirror() -> Iterator[None]:
    with mirror_can_be_imported():
        yield


def python(code: str, **environment: str) -> str:
    """Standard output of `code` in a fresh interpreter, which has what make.py needs at hand."""
    head = (
        "import sys, warnings; from configs.schema import EnvConfig, ProcgenConfig\n"
        "from envs.make import check_env, make_vec; from envs.spec import EnvError\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


CHECK = """
for backend in ("envpool", "procgen", "auto"):
    try:
        check_env(EnvConfig(id="procgen/maze", procgen=ProcgenConfig(backend=backend)))
        print("runs")
    except EnvError as error:
        print(error)
"""


def test_a_missing_backend_is_named_with_its_remedy() -> None:
    block = "sys.modules['envpool'] = sys.modules['procgen'] = None\n"
    envpool, procgen, auto = python(block + CHECK).splitlines()
    assert envpool == f"env.id = 'procgen/maze': {NO_ENVPOOL}"
    assert procgen.startswith(f"env.id = 'procgen/maze': {NO_PROCGEN}")
    assert auto.startswith(f"env.id = 'procgen/maze': {NO_ENVPOOL}; or instead: {NO_PROCGEN}")


def broken_qt(folder: Path) -> dict[str, str]:
    """Makes the dynamic loader find a libQt5Gui that it cannot load, as it finds none where Qt is missing."""
    (folder / "libQt5Gui.so.5").touch()
    return {"LD_LIBRARY_PATH": str(folder)}


def test_a_missing_qt_is_named_with_its_remedy(tmp_path: Path) -> None:
    pytest.importorskip("envpool", reason=NO_ENVPOOL)
    envpool, _, auto = python("sys.modules['procgen'] = None\n" + CHECK, **broken_qt(tmp_path)).splitlines()
    assert envpool == f"env.id = 'procgen/maze': envpool cannot load the system's {NO_QT}"
    assert auto.startswith(f"{envpool}; or instead: {NO_PROCGEN}")


def test_auto_takes_the_second_backend_and_says_so(tmp_path: Path) -> None:
    need("procgen")
    code = (
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    env = make_vec(EnvConfig(id='procgen/maze'))\n"
        "print(type(env).__name__, caught[0].message, sep='\\n')\n"
    )
    name, warning = python(code, PYTHONPATH=str(MIRROR), **broken_qt(tmp_path)).splitlines()
    assert name == "MirrorVecEnv"
    assert warning.startswith("ProcGen runs on the backend 'procgen': ") and warning.endswith(NO_QT)


def test_auto_takes_envpool_where_it_runs() -> None:
    need("envpool")
    assert python("print(type(make_vec(EnvConfig(id='procgen/maze'))).__name__)") == "EnvpoolVecEnv\n"


def test_doctor_shows_every_backend() -> None:
    result = diagnose()
    suite = result["suites"]["procgen"]
    assert suite["backends"] == {name: obstacle(name) for name in ("envpool", "procgen")}
    assert suite["runs"] == (None in suite["backends"].values())
    assert "    backend envpool: " in report(result)
    code = (
        "sys.modules['envpool'] = sys.modules['procgen'] = None\n"
        "from envs.doctor import diagnose, report; print(report(diagnose()))\n"
    )
    (line,) = [line for line in python(code).splitlines() if line.startswith("  procgen ")]
    assert f"needs envpool or procgen: {NO_ENVPOOL}; or instead: {NO_PROCGEN}" in line


def config(game: str = "maze", threads: int = 1, **options: Any) -> EnvConfig:
    return EnvConfig(id=f"procgen/{game}", num_threads=threads, procgen=ProcgenConfig(**options))


@pytest.mark.parametrize(
    ("game", "mode", "modes"),
    [
        ("coinrun", "memory", "easy, hard, exploration"),
        ("maze", "extreme", "easy, hard, memory, exploration"),
        ("dodgeball", "exploration", "easy, hard, extreme, memory"),
        ("bigfish", "extreme", "easy, hard"),
    ],
)
def test_a_mode_that_the_game_lacks(game: str, mode: Any, modes: str) -> None:
    message = f"^env.procgen.distribution_mode = '{mode}': procgen/{game} has {modes}$"
    with pytest.raises(EnvError, match=message):
        check_env(config(game, distribution_mode=mode))


def test_an_unknown_game_is_refused_with_near_names() -> None:
    with pytest.raises(EnvError, match="'procgen' has no such environment; did you mean procgen/chaser"):
        check_env(config("chasr"))


def test_threads_without_effect_are_refused() -> None:
    need("procgen")
    with pytest.raises(EnvError, match=r"env\.num_threads = 2 cannot take effect"):
        check_env(config(threads=2, backend="procgen"))


def test_options_of_other_suites_are_refused() -> None:
    with pytest.raises(EnvError, match=r"env\.sticky_actions = 0\.25 cannot take effect: procgen/maze"):
        check_env(EnvConfig(id="procgen/maze", sticky_actions=0.25))
    with pytest.raises(EnvError, match=r"env\.procgen\.num_levels = 5 cannot take effect: cartpole/full"):
        check_env(EnvConfig(id="cartpole/full", procgen=ProcgenConfig(num_levels=5)))


def test_what_is_said_to_install_is_what_make_installs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (pins,) = re.findall(r"^MIRROR_PINS := (.*)$", makefile, re.MULTILINE)
    assert f"pip install --no-deps {pins} &&" in procgen_backends._INSTALL_PROCGEN
    assert f"\nMIRROR := {MIRROR.relative_to(ROOT)}\n" in makefile
    assert f"\n\t{procgen_backends._INSTALL_QT}\n" in makefile
