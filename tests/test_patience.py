"""No test depends on the machine's being fast, or alone: waits are patient, and for conditions.

A checker over the tests' own source: here it must find the fault in planted files, and tests/test_tree.py
holds the tests to it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli import PATIENCE_S

PATIENT = ("communicate", "finished", "join", "result", "run", "wait", "wait_procs", "wait_until", "urlopen")
"""Calls that fail when a time is over. `next_rollout` and the like only look again."""
SLEEPERS = {
    "integration/cli.py": "wait_until itself",
    "cluster/slurm.py": "between two looks at SLURM's queue",
    "faulty_env.py": "an env that hangs",
    "benchmarks/slow_env.py": "an env that takes its time",
    "cluster/site/dying_env.py": "the same",
    "actors/fleet/test_ray_fleet.py": "leaves time for what must not happen",
    "conftest.py": "between two looks at the processes",
    "mutants/run.py": "between two looks at the processes",
    "integration/conftest.py": "between two looks at what is left",
    "soak/run.py": "between two looks at a run",
}
"""Files that may sleep, and why."""


def _number(node: ast.expr | None) -> float | None:
    """The value of a literal number."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value is not True:
        return float(node.value)
    return None


def _calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func
            yield node, name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")


def impatience(root: Path) -> list[str]:
    """Places under `root` that a slow or busy machine can turn into a failure, as `file:line: what`."""
    faults = []
    for path in sorted(root.rglob("*.py")):
        file, tree = path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        for call, name in _calls(tree):
            limits = [_number(k.value) for k in call.keywords if k.arg in ("timeout", "timeout_s")]
            limits += [_number(argument) for argument in call.args[-1:] if name in ("wait", "timeout")]
            limit = min((limit for limit in limits if limit is not None), default=None)
            where = f"{file}:{call.lineno}:"
            if name == "timeout" and limit is not None and limit < 1800:
                faults.append(
                    f"{where} a test's time limit is for what hangs, and {limit:g} s may be slowness"
                )
            elif name in PATIENT and limit is not None and limit < PATIENCE_S:
                faults.append(f"{where} {name} gives up after {limit:g} s: use PATIENCE_S")
            elif name == "sleep" and file not in SLEEPERS:
                faults.append(f"{where} sleeps: wait for a condition, by wait_until")
        for node in ast.walk(tree):
            match node:
                case ast.BinOp(
                    left=ast.Call(func=ast.Attribute(attr="monotonic")), op=ast.Add(), right=right
                ):
                    if (limit := _number(right)) is not None and limit < PATIENCE_S:
                        faults.append(f"{file}:{node.lineno}: a deadline of {limit:g} s: use wait_until")
    return faults


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("wait_until(done, timeout_s=60)", "wait_until gives up after 60 s"),
        ("process.communicate(timeout=100)", "communicate gives up after 100 s"),
        ("process.wait(20)", "wait gives up after 20 s"),
        ("subprocess.run(command, timeout=60.0)", "run gives up after 60 s"),
        ("pytestmark = pytest.mark.timeout(300)", "300 s may be slowness"),
        ("time.sleep(0.5)", "sleeps"),
        ("deadline = time.monotonic() + 20", "a deadline of 20 s"),
    ],
)
def test_impatience_is_found(tmp_path: Path, line: str, fault: str) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "test_planted.py").write_text(f"import time\n{line}\n")
    (found,) = impatience(tmp_path)
    assert found.startswith("deeper/test_planted.py:2: ") and fault in found


@pytest.mark.parametrize(
    "line",
    [
        "wait_until(done)",
        "process.wait(PATIENCE_S)",
        "fleet.next_rollout(timeout_s=1.0)",
        "pytest.mark.timeout(1800)",
        "deadline = time.monotonic() + PATIENCE_S",
        "config = _config(rollout_timeout_s=8.0)",
    ],
)
def test_patience_is_not_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "test_planted.py").write_text(f"{line}\n")
    assert impatience(tmp_path) == []
