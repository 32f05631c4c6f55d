"""The system inline on real Atari, acting on the GPU, beside what ale-py alone gives.

    python -m benchmarks.on_gpu.atari --out DIR

Needs no Ray and no W&B. Where Atari is not installed, `python -m benchmarks.gpu --wheels` brings it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import header
from configs.machine import available_cores
from configs.presets import preset
from envs.make import make_vec

ROOT = Path(__file__).resolve().parents[2]


def env_steps_per_s(slots: int, threads: int, seconds: float) -> float:
    """Agent steps a second of the environments alone, by random actions."""
    config = dataclasses.replace(preset("atari_breakout_rtrl").env, num_envs=slots, num_threads=threads)
    env, rng = make_vec(config), np.random.default_rng(1)
    try:
        env.reset(1)
        start = time.perf_counter()
        steps = 0
        while time.perf_counter() - start < seconds:
            env.step(rng.integers(4, size=slots))
            steps += slots
        return steps / (time.perf_counter() - start)
    finally:
        env.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    slots, threads, seconds = (4, 1, 6) if options.quick else (128, available_cores(), 45)
    alone = env_steps_per_s(slots, threads, 2 if options.quick else 5)
    print(f"environments alone: {alone:.0f} steps/s, {slots} slots, {threads} threads", flush=True)
    run_dir = options.out / "atari-run"
    shutil.rmtree(run_dir, ignore_errors=True)  # of an earlier call with the same folder
    small = ["--policy.encoder", "nature", "--policy.hidden-size", "16", "--unroll-length", "10"]
    command = [
        sys.executable, str(ROOT / "launch.py"), "train", "atari_breakout_rtrl", "--runtime", "inline",
        "--device", "auto", "--actor-device", "cuda" if gpu else "cpu",
        "--num-streams", str(slots), "--env.num-envs", str(slots), "--batch-size", str(slots),
        "--env.num-threads", str(threads), "--time-limit-s", str(seconds), "--wandb.mode", "disabled",
        "--log-interval-s", "2", "--run-dir", str(run_dir), *(small if options.quick else []),
    ]  # fmt: skip
    code = subprocess.run(command, cwd=ROOT).returncode
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    rates = [row["charts/SPS"] for row in rows if "charts/SPS" in row]
    settled = rates[len(rates) // 2 :]
    result = {"machine": header(), "exit": code, "slots": slots, "threads": threads, "env_alone": alone}
    result |= {"system": statistics.median(settled) if settled else None, "SPS": rates, "last": rows[-1:]}
    if settled:
        result["system_over_env_alone"] = statistics.median(settled) / alone
        print(f"system: {statistics.median(settled):.0f} steps/s", flush=True)
    (options.out / "atari.json").write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
