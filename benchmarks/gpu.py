"""What a GPU has to say about this project, by one command, where nothing else is installed.

    python -m benchmarks.gpu --out DIR            tests on the GPU, kernels by size, whole learner steps
    python -m benchmarks.gpu --out DIR --quick    small sizes, to see that it runs (a CPU will do)

Needs torch, triton, numpy and pytest. Each part is a process of its own, and runs even if one before it
failed; `--only` chooses parts, and `--limit-s` ends a part that takes too long. Left in DIR: what each part
printed, in PART.txt; `kernels-cuda.{json,md}` and `learner-step-cuda.{json,md}` (`-cpu` without a GPU), as
far as they came; and `summary.json`, with the machine and how each part ended. Exit code 1 if one failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.machine import header

ROOT = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/kernels/test_triton.py",
    "tests/kernels/test_trace.py",
    "tests/kernels/test_host_waits.py",
    "tests/kernels/test_compile_ahead.py",
    "tests/kernels/test_ops.py",
    "tests/learner/test_compile.py",
)
"""Tests that run on a GPU where there is one, and those of what stands next to it. None needs hypothesis."""
QUICK_TESTS = ("tests/kernels/test_host_waits.py", "tests/learner/test_compile.py")
PARTS = ("tests", "kernels", "learner_step")


def command(part: str, out: Path, quick: bool) -> list[str]:
    """The command line of a part, without the interpreter."""
    match part:
        case "tests":
            # Warnings are shown, and fail nothing: the versions here may be others than those pinned.
            options = [
                "-p",
                "no:cacheprovider",
                "-W",
                "default",
                "-rfEs",
                "--durations=10",
                "--show-capture=no",
            ]
            return ["-m", "pytest", *options, *(QUICK_TESTS if quick else TESTS)]
        case "kernels":
            small = ["--sizes", "10,4,64", "--budget-s", "0.2"] if quick else []
            return ["-m", "benchmarks.kernels", "--out", str(out), *small]
        case "learner_step":
            return ["-m", "benchmarks.learner_step", "--out", str(out), *(["--quick"] if quick else [])]
    raise AssertionError(part)


def run(part: str, out: Path, quick: bool, limit_s: float | None) -> dict[str, object]:
    """Runs a part; what it prints goes to the terminal and to `PART.txt`."""
    print(f"--- {part}", flush=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    started, log = time.monotonic(), out / f"{part}.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command(part, out, quick)], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
        try:
            code: int | str = process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = f"ended after {limit_s:.0f} s"
    print(log.read_text(errors="replace")[-3000:], flush=True)
    return {"exit": code, "seconds": round(time.monotonic() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="small sizes and few tests")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--limit-s", type=float, help="ends a part that takes longer")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, object] = {"machine": header(), "quick": options.quick}
    failed = []
    for part in options.only:
        result = run(part, out, options.quick, options.limit_s)
        summary[part] = result
        failed += [part] if result["exit"] != 0 else []
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: this was a CPU"
    print(f"--- {where}; {', '.join(failed) or 'nothing'} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
