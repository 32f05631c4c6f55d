"""Which suites can run here, which packages are there, and the command for what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import shutil
from typing import Any

from configs.machine import available_cores
from envs.registry import SUITES, Suite

PACKAGES = {
    "torch": "everything",
    "ray": "--runtime ray",
    "wandb": "--wandb.mode online or offline",
    "moviepy": "videos in W&B",
    "matplotlib": "plots",
    "triton": "fused kernels on a GPU, and their tests",
}
"""Distribution to what it is needed for, suites aside."""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _missing(suite: Suite) -> list[str]:
    return [name for name in suite.packages if importlib.util.find_spec(name) is None]


def _examine(suite: Suite) -> dict[str, Any]:
    """Whether the suite runs here, and the command for what is missing."""
    missing, install, obstacles = _missing(suite), [suite.install], {}
    if suite.backends:
        module = importlib.import_module(suite.module)
        obstacles = {backend: module.obstacle(backend) for backend in suite.backends}
        if all(obstacles.values()):
            missing, install = [" or ".join(suite.backends)], ["; or instead: ".join(obstacles.values())]
    install = install if missing else []
    programs = [program for program in suite.programs if shutil.which(program) is None]
    if programs:
        missing += programs
        install.append(f"apt-get install -y --no-install-recommends {' '.join(programs)}")
    return {
        "runs": not missing,
        "ids": f"{suite.prefix}..." if suite.prefix else "any other id",
        "missing": missing,
        "install": "; and ".join(install) or None,
        "backends": obstacles,
    }


def diagnose() -> dict[str, Any]:
    """Plain JSON; with the GPUs, what `doctor --json` writes."""
    return {
        "python": platform.python_version(),
        "cores": available_cores(),
        "packages": {name: _version(name) for name in PACKAGES},
        "suites": {suite.name: _examine(suite) for suite in SUITES},
    }


def report(result: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"Python {result['python']}, {result['cores']} cores", "", "packages"]
    for name, purpose in PACKAGES.items():
        lines.append(f"  {name:12}{result['packages'][name] or 'not installed':16}{purpose}")
    lines += ["", "suites"]
    for name, suite in result["suites"].items():
        state = "runs" if suite["runs"] else f"needs {', '.join(suite['missing'])}: {suite['install']}"
        lines.append(f"  {name:28}{suite['ids']:32}{state}")
        for backend, obstacle in suite["backends"].items():
            lines.append(f"    backend {backend}: {obstacle or 'runs'}")
    return "\n".join(lines)
