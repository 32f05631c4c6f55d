"""Plants one fault after the other and shows that the fast tests find it: `make mutants`.

mutmut and cosmic-ray make every syntactic change of a file: thousands here, many without effect, at seconds
each. The list in `faults.py` holds those that would spoil a result, each with the tests that should see it.

    a copy of the tree for each process --fault written in--> pytest -x on the fault's tests --> found, or not

Exit codes: 0 all found, 1 one survived (or broke the tests in another way), 2 nothing was tried: a fault that
no longer fits the tree, or tests that fail without any.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.mutants.mutant import Mutant, MutantError, mutate

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results.jsonl"
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "runs", "results", "shared"
)
TIMEOUT_S = 300.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Result:
    mutant: Mutant
    outcome: Literal["found", "timeout", "survived", "broken"]
    by: str
    """The test that failed; of "broken", how pytest ended."""
    seconds: float

    @property
    def line(self) -> str:
        by = {
            "found": self.by,
            "timeout": "time limit",
            "survived": "SURVIVED",
            "broken": f"BROKEN, {self.by}",
        }
        return f"{self.mutant.name}: {by[self.outcome]} ({self.seconds:.1f} s)"


def _start_pytest(tree: Path, arguments: list[str], output: Path) -> int:
    """Runs pytest in `tree`, in a forked process with a session of its own; returns its id.

    What was imported here (torch, which takes longer than most tests) is not imported again there.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", closefd=False)
        os.chdir(tree)
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a cache knows a file by size and second alone
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of other packages take longer than a test
        os.environ["OMP_NUM_THREADS"] = "1"
        sys.dont_write_bytecode = True
        sys.path[:] = [str(tree), *(path for path in sys.path if path not in ("", str(ROOT)))]
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        flags = ["-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", f"--rootdir={tree}"]
        code = int(pytest.main([*flags, *arguments]))
    except BaseException:  # nothing may get out of here: the parent's work would be done twice
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _end(pid: int) -> None:
    """Kills what is left of the session that `pid` leads."""
    with contextlib.suppress(ProcessLookupError):  # where all of it has ended
        os.killpg(pid, signal.SIGKILL)


def _failed_test(output: str) -> str:
    match = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    return match[1] if match else "no test named"


class _Slot:
    """One copy of the tree, in which one mutant at a time is tried."""

    def __init__(self, root: Path, tree: Path, timeout_s: float) -> None:
        self._tree, self._output, self._timeout_s = tree, tree.with_suffix(".out"), timeout_s
        shutil.copytree(root, tree, ignore=NOT_COPIED)
        self.mutant: Mutant | None = None
        self._pid: int | None = None

    def run_all(self, tests: list[str]) -> tuple[int, str]:
        """The tests of the tree as it is: exit code and output."""
        self._pid = _start_pytest(self._tree, tests, self._output)
        _, status = os.waitpid(self._pid, 0)
        self.stop()
        return os.waitstatus_to_exitcode(status), self._output.read_text(errors="replace")

    def start(self, mutant: Mutant) -> None:
        self.mutant, path = mutant, self._tree / mutant.file
        self._original = path.read_bytes()
        path.write_text(mutate(self._tree, mutant), encoding="utf-8")
        self._started = time.monotonic()
        self._pid = _start_pytest(self._tree, ["-x", *mutant.tests], self._output)

    def stop(self) -> None:
        """Ends what runs, where the whole is being given up."""
        if self._pid is not None:
            _end(self._pid)

    def poll(self) -> Result | None:
        """The result, once there is one; the tree is then as it was."""
        assert self.mutant is not None and self._pid is not None
        ended, status = os.waitpid(self._pid, os.WNOHANG)
        seconds = time.monotonic() - self._started
        if not ended and seconds < self._timeout_s:
            return None
        self.stop()
        if not ended:
            os.waitpid(self._pid, 0)
        self._pid = None
        mutant, self.mutant = self.mutant, None
        (self._tree / mutant.file).write_bytes(self._original)
        if not ended:
            return Result(mutant, "timeout", "", seconds)
        output, code = self._output.read_text(errors="replace"), os.waitstatus_to_exitcode(status)
        if code == pytest.ExitCode.TESTS_FAILED:
            return Result(mutant, "found", _failed_test(output), seconds)
        if code == pytest.ExitCode.OK:
            return Result(mutant, "survived", "", seconds)
        return Result(mutant, "broken", f"pytest ended with {code}, {_failed_test(output)}", seconds)


def _require_green(slot: _Slot, mutants: Sequence[Mutant]) -> None:
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    print(f"{len(mutants)} faults; first their tests, in {len(tests)} places, without any", flush=True)
    code, output = slot.run_all(tests)
    if code != pytest.ExitCode.OK:
        raise MutantError(f"the tests fail without a fault, so that none can be told:\n{output[-3000:]}")


def try_all(
    root: Path, mutants: Sequence[Mutant], *, jobs: int = 1, timeout_s: float = TIMEOUT_S
) -> Iterator[Result]:
    """Tries the mutants, `jobs` at a time; yields each result as it comes.

    Raises MutantError, before anything is planted, for a fault that does not fit, and where a test of theirs
    fails in the tree as it is.
    """
    for mutant in mutants:
        mutate(root, mutant)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        slots = [_Slot(root, Path(folder) / str(i), timeout_s) for i in range(min(jobs, len(mutants)))]
        try:
            _require_green(slots[0], mutants)
            waiting = list(reversed(mutants))
            while waiting or any(slot.mutant for slot in slots):
                for slot in slots:
                    if slot.mutant is not None and (result := slot.poll()) is not None:
                        yield result
                    if slot.mutant is None and waiting:
                        slot.start(waiting.pop())
                time.sleep(POLL_S)
        finally:
            for slot in slots:
                slot.stop()


def record(path: Path, mutants: Sequence[Mutant], result: Result) -> None:
    """Writes down one result, keeps the others, drops those of what is listed no more."""
    rows = {}
    if path.is_file():
        rows = {(row["file"], row["fault"]): row for row in map(json.loads, path.read_text().splitlines())}
    rows[result.mutant.file, result.mutant.fault] = {
        "file": result.mutant.file,
        "fault": result.mutant.fault,
        "outcome": result.outcome,
        "by": result.by,
        "seconds": round(result.seconds, 1),
        "date": time.strftime("%Y-%m-%d"),
    }
    names = [(mutant.file, mutant.fault) for mutant in mutants]
    path.write_text("".join(json.dumps(rows[name]) + "\n" for name in names if name in rows))


def main(arguments: Sequence[str], root: Path, mutants: Sequence[Mutant], results: Path | None) -> int:
    parser = argparse.ArgumentParser(description="Plants faults and shows that the fast tests find them.")
    parser.add_argument("--only", default="", help="those whose file or fault contains this text")
    parser.add_argument("--jobs", type=int, default=2, help="at a time")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds a fault")
    options = parser.parse_args(arguments)
    chosen = [mutant for mutant in mutants if options.only in mutant.name]
    if not chosen:
        print(f"no fault's file or words contain {options.only!r}", file=sys.stderr)
        return 2
    done: list[Result] = []
    try:
        for result in try_all(root, chosen, jobs=options.jobs, timeout_s=options.timeout):
            done.append(result)
            print(f"{len(done):4d}/{len(chosen)}  {result.line}", flush=True)
            if results is not None:
                record(results, mutants, result)
    except MutantError as error:
        print(error, file=sys.stderr)
        return 2
    missed = [result for result in done if result.outcome in ("survived", "broken")]
    late = sum(result.outcome == "timeout" for result in done)
    print(f"{len(done) - len(missed)} of {len(done)} found, {late} of them by the time limit")
    for result in missed:
        print(result.line)
    return 1 if missed else 0


if __name__ == "__main__":
    import torch  # noqa: F401  once, for all the processes to come

    from tests.mutants.faults import MUTANTS

    sys.exit(main(sys.argv[1:], ROOT, MUTANTS, RESULTS))
