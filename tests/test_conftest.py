"""The suite's own guards: leftovers are reported, skips counted, fresh memory poisoned, seeds set."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import psutil
import pytest
import torch

from tests.conftest import unit_of

CONFTEST = Path(__file__).with_name("conftest.py")


def run_pytest(folder: Path, test: str, *options: str, ini: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a test file of its own under this suite's conftest, with nothing else configured than `ini`."""
    (folder / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu\n    ray\n" + ini)
    (folder / "test_planted.py").write_text(test)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
    )


LEAVES_AN_ORPHAN = """
import os, subprocess, sys
import conftest
conftest.GRACE_S = 0.1
def test_leaves_an_orphan():
    shell = f"{sys.executable} -c 'import time; time.sleep(100)' >/dev/null 2>&1 &"
    subprocess.run(["sh", "-c", shell], check=True)
"""


def test_a_process_left_behind_fails_the_run(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, LEAVES_AN_ORPHAN)
    found = re.search(r"still alive:\nE?\s+(\d+): .*time\.sleep\(100\)", result.stdout)
    assert found is not None, result.stdout
    pid = int(found[1])
    assert "time.sleep(100)" in " ".join(psutil.Process(pid).cmdline())
    os.kill(pid, signal.SIGTERM)
    assert result.returncode == 1
    assert "1 passed, 1 error" in result.stdout


def test_a_process_that_was_waited_for_does_not(tmp_path: Path) -> None:
    result = run_pytest(
        tmp_path, "import subprocess\ndef test_waits():\n    subprocess.run(['true'], check=True)\n"
    )
    assert result.returncode == 0, result.stdout
    assert "skipped" not in result.stdout


def test_skips_are_counted_by_reason(tmp_path: Path) -> None:
    test = """
import pytest
@pytest.mark.parametrize("i", range(3))
def test_engine(i):
    pytest.skip("no engine here")
@pytest.mark.skipif(True, reason="wrong moon")
def test_moon(): ...
"""
    result = run_pytest(tmp_path, test)
    assert "4 skipped, by reason" in result.stdout
    assert "   3  no engine here\n   1  wrong moon\n" in result.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so a gpu test runs")
def test_gpu_tests_are_skipped_where_there_is_none(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, "import pytest\n@pytest.mark.gpu\ndef test_gpu():\n    assert False\n")
    assert result.returncode == 0
    assert "   1  needs a CUDA GPU, and torch sees none here" in result.stdout


def test_the_suite_runs_where_only_pytest_is_installed_and_says_what_is_off(tmp_path: Path) -> None:
    (tmp_path / "psutil.py").write_text("raise ModuleNotFoundError('psutil')\n")
    test = "import pytest\n@pytest.mark.timeout(5)\ndef test_it(): ...\n"
    options = ("-p", "no:timeout", "--strict-markers", "-W", "error")
    result = run_pytest(tmp_path, test, *options, ini="timeout = 7\n")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "without psutil: processes left behind are not looked for" in result.stdout
    assert "without pytest-timeout: no test has a time limit" in result.stdout


@pytest.mark.usefixtures("poison")
def test_fresh_memory_is_poisoned() -> None:
    source = torch.zeros(4, 3)
    fresh = [
        torch.empty(4, 3, dtype=torch.float64),
        torch.empty_like(source),
        torch.empty_strided((4, 3), (3, 1)),
        source.new_empty(2),
        source.new_empty_strided((2, 2), (2, 1)),
    ]
    assert all(tensor.isnan().all() for tensor in fresh)
    assert torch.empty(3, dtype=torch.int32).eq(2**31 - 1).all()
    assert torch.empty(3, dtype=torch.bool).all()


def test_memory_is_not_poisoned_otherwise() -> None:
    assert torch.empty.__name__ == "empty"
    assert torch.Tensor.new_empty.__name__ == "new_empty"


@pytest.mark.parametrize("which", [1, 2])
def test_every_test_starts_from_the_same_seed(which: int, seed: int) -> None:
    drawn = (random.random(), float(np.random.random()), float(torch.rand(())))
    expected = (
        random.Random(seed).random(),
        float(np.random.RandomState(seed).random_sample()),
        float(torch.rand((), generator=torch.Generator().manual_seed(seed))),
    )
    assert drawn == expected


def test_a_property_may_take_its_time() -> None:
    assert hypothesis.settings().deadline is None
    assert hypothesis.HealthCheck.too_slow in hypothesis.settings().suppress_health_check


SAYS_WHERE = """
import os, pytest
from pathlib import Path
def say(kind):
    with Path("log").open("a") as log:
        log.write(f"{kind} {os.environ['PYTEST_XDIST_WORKER']}\\n")
each = pytest.mark.parametrize("i", range(4))
"""
PLANTED = {
    "test_ray": "pytestmark = [pytest.mark.ray]\n@each\ndef test(i): say('ray')\n",
    "test_one": "@pytest.mark.ray\n@each\ndef test_a(i): say('ray')\n@each\ndef test_b(i): say('free')\n",
    "integration/test_command": "pytestmark = pytest.mark.ray\n@each\ndef test(i): say('command')\n",
    "integration/test_node": "pytestmark = pytest.mark.ray\n@each\ndef test(i): say('node')\n",
    "test_shares": '@pytest.fixture(scope="module")\ndef a(): say("made")\n@each\ndef test(i, a): ...\n',
}


def test_several_processes_run_one_ray_after_the_other_and_make_once_what_is_shared(tmp_path: Path) -> None:
    for name, text in PLANTED.items():
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(SAYS_WHERE + text)
    free = SAYS_WHERE + "@each\n@pytest.mark.parametrize('j', range(4))\ndef test_free(i, j): say('free')\n"
    result = run_pytest(tmp_path, free, "-n", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    where: dict[str, list[str]] = {}
    for kind, worker in map(str.split, (tmp_path / "log").read_text().splitlines()):
        where.setdefault(kind, []).append(worker)
    for kind, times in (("ray", 8), ("command", 4), ("node", 4), ("made", 1)):
        assert len(where[kind]) == times and len(set(where[kind])) == 1
    assert len(where["free"]) == 20 and set(where["free"]) - set(where["ray"])
    rays = ("test_ray.py", "integration/test_command.py", "integration/test_node.py")
    assert len({unit_of(f"{file}::test", tmp_path) for file in rays}) == len(rays)


def test_a_ray_test_that_is_marked_in_another_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "marks.py").write_text("import pytest\nstarts_one = pytest.mark.ray\n")
    test = "from marks import starts_one\n@starts_one\ndef test_it(): ...\n"
    result = run_pytest(tmp_path, test, ini="pythonpath = .\n")
    assert result.returncode == 4
    assert "test_it: write its mark as `@pytest.mark.ray`" in result.stdout + result.stderr
