"""Who may import whom, and what each module needs to be imported.

Every checker takes the root of a tree, so that it also runs on planted trees in which it must find the fault.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("actors", "configs", "envs", "kernels", "learner", "training")
EVIDENCE = ("benchmarks", "experiments", "sweeps")

ENV_PACKAGES = (
    *("ale_py", "deepmind_lab", "envpool", "gym", "gym3", "gymnasium"),
    *("minigrid", "mujoco", "popgym", "procgen", "vizdoom"),
)

# The only files that may import a package, in whatever way. The tests, benchmarks and experiments are
# free.
HOMES: dict[str, tuple[str, ...]] = {
    "wandb": ("learner/records/sinks.py", "learner/records/dashboard.py"),
    "wandb_workspaces": ("learner/records/dashboard.py",),
    "ray": (
        "actors/fleet/worker.py",
        "actors/fleet/ray_fleet.py",
        "actors/fleet/crew.py",
        "actors/fleet/elastic.py",
        "actors/fleet/requests.py",
        "actors/fleet/slot.py",
        "actors/fleet/waiting.py",
        "actors/fleet/nodes.py",
        "actors/fleet/placement.py",
        "actors/play/evaluator.py",
        "actors/fleet/cluster.py",
        "learner/publish.py",
        "training/gang.py",
        "training/placed.py",
        "training/rank.py",
        "launch.py",
    ),
    "triton": ("kernels/*/triton.py", "kernels/cells/*/triton.py"),
    "tyro": ("command_line.py", "launch.py", "play.py"),
    "PIL": ("actors/play/frames.py",),
    "imageio_ffmpeg": ("actors/play/video.py",),
    "rich": (
        "launch.py",
        "play.py",
        "actors/play/progress.py",
        "learner/records/sinks.py",
        "learner/records/progress.py",
        "training/records.py",
        "training/gang.py",
    ),
    **dict.fromkeys(ENV_PACKAGES, ("envs/suites/*.py", "envs/suites/*/*.py")),
    "benchmarks": ("launch.py",),
    "experiments": ("launch.py",),
    "sweeps": ("launch.py",),
    "command_line": ("command_line.py", "launch.py", "play.py"),
    "launch": ("launch.py",),
    "play": ("launch.py", "play.py"),
    "tests": (),
}
# Packages that may be imported inside a function only, so that importing a module does not need them.
LAZY = ("wandb", "wandb_workspaces", "matplotlib", "scipy", "moviepy", "cv2", "PIL", "imageio_ffmpeg")
# All that a package of ours may import from outside the standard library.
ONLY: dict[str, tuple[str, ...]] = {
    "configs": ("configs",),
    "kernels": ("kernels", "torch", "triton"),
    "envs": ("envs", "configs", "numpy", *ENV_PACKAGES),
}
# What the learner may import of acting: no process, no environment.
LEAVES_OF_ACTORS = ("distributions", "frame_stack", "output", "rollout", "policy", "weights")
TYPE_CHECKING = ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    lazy: bool
    """Inside a function, or for the type checker alone."""

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def second(self) -> str:
        return self.module.partition(".")[2].partition(".")[0]


def sources(root: Path) -> list[Path]:
    """The modules of the application: those at the root and everything in the packages."""
    found = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    return sorted([*found, *root.glob("*.py")])


def imports(node: ast.AST, lazy: bool = False) -> Iterator[Import]:
    """Every import below `node`: statements, and `import_module("...")` with a literal name."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names=names):
                yield from (Import(alias.name, child.lineno, lazy) for alias in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                # `from actors import worker` imports actors.worker, if that is a module.
                yield from (Import(f"{module}.{alias.name}", child.lineno, lazy) for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield Import(module, child.lineno, lazy)
        inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(child, ast.If) and ast.unparse(child.test) in TYPE_CHECKING
        yield from imports(child, inside or typing_only)


def import_faults(root: Path) -> list[str]:
    """Imports that the rules above forbid, as `file:line: what is wrong`."""
    faults = []
    for path in sources(root):
        file = PurePosixPath(path.relative_to(root).as_posix())
        only = ONLY.get(file.parts[0])
        for found in imports(ast.parse(path.read_text(encoding="utf-8"))):
            where, top = f"{file}:{found.line}:", found.top
            if top in HOMES and not any(file.match(home) for home in HOMES[top]):
                faults.append(f"{where} {', '.join(HOMES[top]) or 'no file'} may import {top}, not this one")
            if top in LAZY and not found.lazy:
                faults.append(f"{where} {top} is imported inside a function only")
            if file.parts[0] == "learner" and top == "actors" and found.second not in LEAVES_OF_ACTORS:
                faults.append(f"{where} the learner imports leaves of actors only, not {found.module}")
            if only is not None and top not in only and top not in sys.stdlib_module_names:
                faults.append(f"{where} {file.parts[0]} imports {', '.join(only)} only, not {top}")
    return faults


def blocked_for(file: PurePosixPath) -> list[str]:
    """Packages that `file` must not need to be imported, directly or through what it imports.

    An env package stays blocked for everything but its own home: a machine without it loads the rest.
    """
    blocked = {name for name, homes in HOMES.items() if not any(file.match(home) for home in homes)}
    if file.name == "launch.py":
        blocked.add("ray")  # --runtime inline runs without it
    return sorted(blocked | set(LAZY))


# Imports the first modules named on its standard input, then each of the others in a fork of its own in which
# some packages cannot be found; prints those that failed. A child that fails prints its traceback and ends.
PROBE = """
import importlib, json, os, sys

class Blocker:
    def __init__(self, names):
        self.names = names
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is blocked for this module", name=name)

preload, cases = json.load(sys.stdin)
for module in preload:
    importlib.import_module(module)
for module, blocked in cases:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        assert not set(blocked) & set(sys.modules), "a blocked package is loaded already"
        sys.meta_path.insert(0, Blocker(blocked))
        importlib.import_module(module)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        print(module)
"""


def run_python(root: Path, code: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        input=stdin,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )


def modules_that_need_more(root: Path) -> tuple[list[str], str]:
    """Modules that cannot be imported without a package blocked for them, and the tracebacks."""
    cases: dict[bool, list[tuple[str, list[str]]]] = {True: [], False: []}
    for path in sources(root):
        file = PurePosixPath(path.relative_to(root).as_posix())
        module = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
        cases[file.parts[0] == "configs"].append((module, blocked_for(file)))
    failed, trouble = [], ""
    for bare, chosen in cases.items():
        preload = [] if bare else ["numpy", "torch"]
        with_torch = [(name, [*blocked, "numpy", "torch"] if bare else blocked) for name, blocked in chosen]
        result = run_python(root, PROBE, json.dumps([preload, with_torch]))
        assert result.returncode == 0, result.stderr
        failed += result.stdout.split()
        trouble += result.stderr
    return failed, trouble


def loaded_after(root: Path, statement: str) -> set[str]:
    """Names of all modules that a fresh interpreter holds after `statement`."""
    result = run_python(root, f"{statement}\nimport sys\nprint(*sys.modules)")
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def contract_report(root: Path) -> tuple[bool, str]:
    """Whether import-linter's contracts in pyproject.toml hold, and its report."""
    result = run_python(
        root, "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    )
    return result.returncode == 0, result.stdout + result.stderr


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_imports_keep_to_their_homes() -> None:
    assert import_faults(ROOT) == []


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("learner/learner.py", "def f():\n    import wandb\n", "may import wandb,"),
        ("learner/records/sinks.py", "import wandb\n", "inside a function only"),
        ("actors/policy/policy.py", "from ray.util import queue\n", "may import ray,"),
        ("kernels/elstm/__init__.py", "import triton.language as tl\n", "may import triton,"),
        ("actors/collect.py", "import gymnasium\n", "may import gymnasium,"),
        ("actors/collect.py", "import importlib\nimportlib.import_module('ale_py')\n", "may import ale_py,"),
        ("kernels/vtrace/reference.py", "import numpy as np\n", "not numpy"),
        ("configs/schema.py", "from torch import nn\n", "not torch"),
        ("envs/suites/atari.py", "import torch\n", "not torch"),
        ("learner/objectives/vtrace.py", "from launch import main\n", "may import launch,"),
        ("learner/batcher.py", "from actors.fleet.cluster import ray_session\n", "leaves of actors only"),
        ("learner/batcher.py", "import actors\n", "leaves of actors only"),
        ("learner/loop.py", "import benchmarks.system\n", "may import benchmarks,"),
        ("envs/make.py", "import tests.conftest\n", "may import tests,"),
    ],
)
def test_a_misplaced_import_is_found(tmp_path: Path, file: str, text: str, fault: str) -> None:
    assert any(fault in found for found in import_faults(plant(tmp_path, {file: text})))


def test_imports_in_their_homes_are_left_alone(tmp_path: Path) -> None:
    files = {
        "learner/records/sinks.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import wandb\n"
        "def f():\n    import wandb\n",
        "kernels/elstm/triton.py": "import math\nimport torch\nimport triton\nfrom kernels.cells import x\n",
        "envs/suites/atari.py": "import ale_py\nimport numpy\nfrom configs.schema import EnvConfig\n",
        "learner/objectives/vtrace.py": "from actors import policy\nfrom actors.rollout import Rollout\n",
        "launch.py": "import ray\nimport command_line\nfrom learner import learner\n",
    }
    assert import_faults(plant(tmp_path, files)) == []


def test_every_module_loads_without_the_packages_of_others() -> None:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources(ROOT)}
    assert {"kernels.elstm.__init__", "actors.policy.policy", "learner.learner", "configs.schema"} <= names
    failed, trouble = modules_that_need_more(ROOT)
    assert failed == [], trouble


def test_a_module_that_needs_more_is_found(tmp_path: Path) -> None:
    files = {
        "kernels/__init__.py": "",
        "kernels/plain.py": "import torch\n",
        "kernels/hasty.py": "from kernels import triton\n",
        "kernels/triton.py": "import triton\n",
        "configs/heavy.py": "import numpy\n",
        "configs/light.py": "import json\n",
        "actors/fleet/worker.py": "import envs.suites.atari\n",
        "envs/suites/atari.py": "import gymnasium\n",
    }
    failed, trouble = modules_that_need_more(plant(tmp_path, files))
    assert sorted(failed) == ["actors.fleet.worker", "configs.heavy", "kernels.hasty", "kernels.triton"]
    assert "gymnasium is blocked" in trouble


def test_evaluation_loads_no_training_code() -> None:
    tops = {name.partition(".")[0] for name in loaded_after(ROOT, "import actors.play.evaluate")}
    assert "actors" in tops
    assert tops.isdisjoint({"learner", "ray", "wandb"})


def test_what_an_import_pulls_in_is_seen(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {"actors/play/evaluate.py": "import learner.loss\n", "learner/loss.py": ""},
    )
    assert "learner.loss" in loaded_after(tmp_path, "import actors.play.evaluate")


def test_import_contracts_hold() -> None:
    kept, report = contract_report(ROOT)
    assert kept, report


@pytest.mark.parametrize(
    ("file", "text", "kept"),
    [
        ("learner/objectives/vtrace.py", "import actors.policy\nimport kernels.op\nimport configs\n", True),
        ("actors/policy/policy.py", "import learner.objectives.vtrace\n", False),
        ("envs/make.py", "import kernels.op\n", False),
        ("learner/learner.py", "import experiments\n", False),
        ("experiments/plots.py", "import sweeps\n", False),
        ("sweeps/report.py", "import experiments.plots\n", True),
        ("kernels/op.py", "import configs\n", False),
        ("configs/schema.py", "import envs.make\n", False),
        ("learner/objectives/vtrace.py", "from actors import fleet\n", False),
        ("actors/policy/policy.py", "import actors.fleet.worker\n", False),  # seen from the learner
    ],
)
def test_a_broken_contract_is_found(tmp_path: Path, file: str, text: str, kept: bool) -> None:
    leaves = ("collect", "fleet/worker", "inference", "play/evaluate", "policy/policy")
    rooms = ("actors/fleet", "actors/play", "actors/policy", "learner/objectives")
    files = {f"{package}/__init__.py": "" for package in (*PACKAGES, *EVIDENCE, *rooms)}
    files |= {f"actors/{leaf}.py": "" for leaf in leaves}
    files |= {"kernels/op.py": "", "envs/make.py": "", "configs/schema.py": ""}
    files |= {"learner/learner.py": "import actors.policy.policy\n", file: text}
    files["pyproject.toml"] = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert contract_report(plant(tmp_path, files))[0] is kept
