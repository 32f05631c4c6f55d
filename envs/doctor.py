"""`launch.py doctor`: what is installed, which suites can run, and the command for what is missing."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from envs.make import SUITES, Suite

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


def diagnose() -> dict[str, Any]:
    """Plain JSON; what `doctor --json` writes."""
    import torch  # slow, and needed for this answer only

    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in PACKAGES},
        "suites": {
            suite.name: {
                "runs": not _missing(suite),
                "ids": f"{suite.prefix}..." if suite.prefix else "any other id",
                "missing": _missing(suite),
                "install": suite.install if _missing(suite) else None,
            }
            for suite in SUITES
        },
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="launch.py doctor", description=(__doc__ or "").strip())
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args(arguments)
    result = diagnose()
    console = Console()
    gpus = ", ".join(result["gpus"]) or "no GPU: the learner runs on the CPU"
    console.print(f"Python {result['python']}, {result['cores']} cores, {gpus}")
    packages = Table("package", "version", "needed for")
    for name, purpose in PACKAGES.items():
        packages.add_row(name, result["packages"][name] or "not installed", purpose)
    suites = Table("suite", "env ids", "can run", "install")
    for name, suite in result["suites"].items():
        suites.add_row(name, suite["ids"], "yes" if suite["runs"] else "no", suite["install"] or "")
    console.print(packages)
    console.print(suites)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0
