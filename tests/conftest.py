"""Fixtures for every test: seeds, poisoned memory, and the check that no process is left behind."""

from __future__ import annotations

import functools
import os
import random
import re
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

try:
    import hypothesis
except ModuleNotFoundError:  # no test that runs needs it then
    pass
else:  # an example that takes long, or is long in the making, shows a slow machine and no fault
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("any machine")
try:
    import psutil
except ModuleNotFoundError:  # a machine with nothing but torch, triton, numpy and pytest
    psutil = None

SESSION_VARIABLE = "EVERTRACE_TEST_SESSION"
GRACE_S = 60.0
"""How long what the tests started may take to end after them; nobody waits for what has ended."""

# Processes of the interpreter itself, which end with it and not before.
OF_THE_INTERPRETER = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    if not pluginmanager.hasplugin("timeout"):
        parser.addini("timeout", "without effect: pytest-timeout is not installed")


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("timeout"):
        config.addinivalue_line("markers", "timeout: without effect, pytest-timeout is not installed")
    # Under nohup what is started here would inherit that hangups are ignored; a handler is not inherited.
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What this machine lacks, and what of the suite's guards is off for that."""
    lines = [] if psutil is not None else ["without psutil: processes left behind are not looked for"]
    if not config.pluginmanager.hasplugin("timeout"):
        lines.append("without pytest-timeout: no test has a time limit")
    return lines


RAY = re.compile(
    r"^pytestmark = .*\bpytest\.mark\.ray\b|^@pytest\.mark\.ray\n(?:(?!def ).*\n)*def (\w+)", re.M
)
RAYS = "ray"
SHARED = re.compile(r'^@pytest\.fixture\(scope="module"', re.M)


@functools.cache
def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


COMMANDS = ("integration", "cluster")
"""Folders whose files start a Ray each, most of them in processes of their own."""


def starts_ray(nodeid: str, root: Path) -> bool:
    """The text of the file tells, since the process that hands the tests out collects none."""
    file, _, test = nodeid.partition("::")
    return bool({"", test.partition("[")[0]} & set(RAY.findall(_text(root / file))))


def unit_of(nodeid: str, root: Path) -> str:
    """What a test must share a process with: all that start a Ray within it; its file, where that shares a
    fixture or its commands start one. So there is never more than one Ray a process."""
    file = nodeid.partition("::")[0]
    if not starts_ray(nodeid, root):
        return file if SHARED.search(_text(root / file)) else nodeid
    return file if Path(file).parent.name in COMMANDS else RAYS


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes run the tests: Rays take turns (`unit_of`), and what tests share is made once.

    Our own, since pytest-xdist 3.8 does not see its `xdist_group` under pytest 9.2 (its issue 1386).
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid, config.rootpath)

    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        is_ray = item.get_closest_marker("ray") is not None
        if is_ray and not starts_ray(item.nodeid, config.rootpath):
            raise pytest.UsageError(
                f"{item.nodeid}: write its mark as `@pytest.mark.ray` or in `pytestmark = `"
            )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Ray reads its token when it is imported: a test module that imports it would lock all others out."""
    if "ray" in sys.modules and session.items:
        raise pytest.UsageError("a test module imports Ray where it is collected: import it within the tests")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU, and torch sees none here")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for every reason to skip, so that a test that ran nowhere is seen."""
    reports = terminalreporter.stats.get("skipped", [])
    if not reports:
        return
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)
    terminalreporter.section(f"{len(reports)} skipped, by reason")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:4d}  {reason}")


@pytest.fixture(autouse=True)
def seed() -> int:
    """Seeds random, NumPy's global generator and torch before each test; the value, for generators."""
    value = 1
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)
    return value


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills what torch hands out uninitialised: NaN in floats, the largest value in integers, True in bools.

    A kernel that leaves a lane unwritten then fails, where fresh memory might happen to hold zeros.
    """
    for owner, name in (
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (torch.Tensor, "new_empty"),
        (torch.Tensor, "new_empty_strided"),
    ):
        monkeypatch.setattr(owner, name, _poisoned(getattr(owner, name)))


def _poisoned(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def allocate_poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        tensor = allocate(*args, **kwargs)
        with torch.no_grad():
            if tensor.is_floating_point() or tensor.is_complex():
                return tensor.fill_(float("nan"))
            return tensor.fill_(True if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max)

    return allocate_poisoned


@pytest.fixture(scope="session", autouse=True)
def no_process_left_behind() -> Iterator[None]:
    """Fails the last test if a process that a test started is alive at the end. It reports, and ends nothing.

    They are known by a variable that they inherit, since a process whose parent has died is nobody's child.
    """
    if psutil is None:
        yield
        return
    token = uuid.uuid4().hex
    os.environ[SESSION_VARIABLE] = token
    yield
    deadline = time.monotonic() + GRACE_S
    while (left := _processes_of(token)) and time.monotonic() < deadline:
        time.sleep(0.1)
    del os.environ[SESSION_VARIABLE]
    if left:
        lines = "\n".join(f"  {pid}: {command}" for pid, command in sorted(left.items()))
        pytest.fail(f"processes that the tests started are still alive:\n{lines}", pytrace=False)


def _processes_of(token: str) -> dict[int, str]:
    """Command lines by process id of the live processes, other than this one, that carry `token`."""
    assert psutil is not None
    found = {}
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.environ().get(SESSION_VARIABLE) != token:
                continue
            command = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # gone or a zombie meanwhile, or another user's
            continue
        if not any(name in command for name in OF_THE_INTERPRETER):
            found[process.pid] = command
    return found
