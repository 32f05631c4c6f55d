"""CartPole with velocities hidden, through Ray: which arms solve it?

    python -m experiments.cartpole --seeds 1 2 3 --out experiments/results/cartpole

Each run is `launch.py train cartpole_<arm>` and then `launch.py eval --episodes 100`, as a user would type
them. Solved: mean return over 100 greedy games of at least 400 (the limit is 500). Runs that are already
in OUT are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import header

ARMS = ("rtrl", "tbptt", "lstm", "feedforward")
SOLVED = 400.0


def run(arm: str, seed: int, runs: Path, more: list[str]) -> dict[str, object]:
    """Trains and evaluates one run; its result as plain JSON. Raises CalledProcessError if either fails."""
    run_dir, result = runs / f"{arm}-seed{seed}", runs / f"{arm}-seed{seed}.json"
    launch = [sys.executable, "launch.py"]
    started = time.monotonic()
    train = ["train", f"cartpole_{arm}", "--seed", str(seed), "--run-dir", str(run_dir)]
    subprocess.run([*launch, *train, "--wandb.mode", "disabled", *more], check=True)
    seconds = time.monotonic() - started
    evaluate = ["eval", str(run_dir), "--episodes", "100", "--greedy", "--json", str(result)]
    subprocess.run([*launch, *evaluate], check=True)
    evaluation = json.loads(result.read_text())
    mean, std = evaluation["episodic_return_mean"], evaluation["episodic_return_std"]
    return {"arm": arm, "seed": seed, "return_mean": mean, "return_std": std, "seconds": round(seconds, 1)}


def table(results: list[dict[str, object]]) -> str:
    """Markdown: an arm a row."""
    lines = [
        "| arm | seeds | return of each (100 greedy games) | solved | seconds a run (median) |",
        "|---" * 5 + "|",
    ]
    for arm in ARMS:
        mine = [r for r in results if r["arm"] == arm]
        if not mine:
            continue
        returns = [float(str(r["return_mean"])) for r in mine]
        solved = sum(value >= SOLVED for value in returns)
        seconds = statistics.median(float(str(r["seconds"])) for r in mine)
        seeds = ", ".join(str(r["seed"]) for r in mine)
        shown = ", ".join(f"{value:.1f}" for value in returns)
        lines.append(f"| {arm} | {seeds} | {shown} | {solved} of {len(mine)} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/cartpole-benchmark"))
    options, more = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.runs.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.jsonl"
    results = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in options.seeds:
        for arm in options.arms:
            if not any(r["arm"] == arm and r["seed"] == seed for r in results):
                results.append(run(arm, seed, options.runs, more))
                with path.open("a") as file:
                    file.write(json.dumps(results[-1]) + "\n")
    machine = json.dumps(header(), indent=2)
    (options.out / "README.md").write_text(f"{table(results)}\n```json\n{machine}\n```\n")
    print(table(results))


if __name__ == "__main__":
    main()
