"""What a GPU has to say about this project, by one command, on a machine without network.

    python -m benchmarks.gpu --out DIR                    300 s: parts in order of worth
    python -m benchmarks.gpu --out DIR --wheels WHEELS    Atari too, from `make gpu-wheels` (build/gpu-wheels)
    python -m benchmarks.gpu --out DIR --quick            small sizes, to see that it runs (a CPU will do)

Needs torch, triton, numpy and pytest. Each part is a process of its own with a time limit, and runs even if
one before it failed; a part for which too little of `--budget-s` is left is dropped, and named. `--only`
chooses parts, `--limit-s` replaces their limits. Left in DIR: what each part printed, in PART.txt; results as
JSON, as far as they came; and `summary.json`, with the machine and how each part ended. Exit code 1 if one
failed; parts that were dropped or skipped are no failure.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.machine import header

ROOT = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/learner/test_on_gpu.py",
    "tests/kernels/test_trace.py",
    "tests/kernels/test_host_waits.py",
    "tests/kernels/test_triton.py",
    "tests/kernels/test_ops.py",
    "tests/learner/test_compile.py",
)
"""Tests that run on a GPU where there is one, and those of what stands next to it. None needs hypothesis."""
QUICK_TESTS = ("tests/learner/test_on_gpu.py", "tests/kernels/test_host_waits.py")
LIMITS_S = {
    **{"tests": 120, "visits": 60, "training": 90, "options": 120, "atari": 90},
    **{"learner_step": 120, "kernels": 120},
}
PARTS = tuple(LIMITS_S)
LEAST_S = 15
"""With less than this left, a part is not begun."""


def command(part: str, out: Path, quick: bool) -> list[str]:
    """The command line of a part, without the interpreter."""
    small = ["--quick"] if quick else []
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
        case "visits" | "training" | "atari":
            return ["-m", f"benchmarks.on_gpu.{part}", "--out", str(out), *small]
        case "options":
            return ["-m", "benchmarks.options", "--out", str(out), *small]
        case "kernels":
            small = ["--tiny"] if quick else ["--sizes", "50,32,512"]
            return ["-m", "benchmarks.kernels", "--out", str(out), *small]
        case "learner_step":
            few = [
                "--encoder",
                "shallow",
                "--T",
                "4",
                "--B",
                "2",
                "--N",
                "16",
                "--rounds",
                "1",
                "--threads",
                "1",
            ]
            small = [*small, *few] if quick else []
            return ["-m", "benchmarks.learner_step", "--out", str(out), *small]
    raise AssertionError(part)


def install(wheels: Path, out: Path) -> Path:
    """The wheels' packages, in a folder below `out` that nothing else sees. No index is asked."""
    site = out / "site"
    names = [str(wheel) for wheel in sorted(wheels.glob("*.whl"))]
    if not names:
        raise SystemExit(f"--wheels {wheels}: no *.whl lies there; `make gpu-wheels` brings them")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade"]
    subprocess.run([*pip, "--target", str(site), *names], check=True)
    return site


def environment(site: Path | None) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *([] if site is None else [str(site)])])
    return os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def reason_to_skip(part: str, site: Path | None) -> str | None:
    if part == "atari" and site is None and importlib.util.find_spec("ale_py") is None:
        return "skipped: ale-py is not installed, and no --wheels were given"
    return None


def run(part: str, out: Path, quick: bool, limit_s: float, site: Path | None) -> dict[str, object]:
    """Runs a part; what it prints goes to `PART.txt`, and its end to the terminal."""
    print(f"--- {part}, {limit_s:.0f} s at most", flush=True)
    started, log = time.monotonic(), out / f"{part}.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command(part, out, quick)],
            cwd=ROOT,
            env=environment(site),
            stdout=file,
            stderr=file,
            start_new_session=True,  # a part that is ended takes what it began along
        )
        try:
            code: int | str = process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = f"ended after {limit_s:.0f} s"
    print(log.read_text(errors="replace")[-3000:], flush=True)
    return {"exit": code, "seconds": round(time.monotonic() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="small sizes and few tests")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--budget-s", type=float, default=300.0, help="for all parts; later ones are dropped")
    parser.add_argument("--limit-s", type=float, help="for each part, in place of its own limit")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels of what is missing for Atari")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    ends_at = time.monotonic() + options.budget_s
    site = None if options.wheels is None else install(options.wheels.resolve(), out)
    summary: dict[str, object] = {"machine": header(), "quick": options.quick}
    failed: list[str] = []
    missing: list[str] = []
    for part in options.only:
        left_s = ends_at - time.monotonic()
        why = reason_to_skip(part, site)
        if why is None and left_s < LEAST_S:
            why = f"dropped: {max(0.0, left_s):.0f} s of {options.budget_s:.0f} were left"
        if why is not None:
            missing.append(f"{part} ({why})")
            summary[part] = {"exit": why}
        else:
            limit_s = min(options.limit_s or LIMITS_S[part], left_s)
            result = run(part, out, options.quick, limit_s, site)
            summary[part] = result
            failed += [part] if result["exit"] != 0 else []
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: this was a CPU"
    print(f"--- {where}; {', '.join(failed) or 'nothing'} failed; not run: {'; '.join(missing) or 'nothing'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
