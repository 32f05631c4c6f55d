"""Other people's memory tasks by exact RTRL, beside a policy without memory: does it beat what that one can?

    python -m experiments.memory_suites --seeds 1 2 3 --out experiments/results/memory-suites

Each run is `launch.py train <task>_<arm>` and then `launch.py eval --episodes 200`, once by the most probable
actions and once sampled: a policy without memory can need chance. Runs that are already in OUT are not
repeated. The best returns without memory (but with the previous reward, which every policy reads):

popgym_repeat_first   The first card's suit is to be named 51 times, each time for 1/51 or -1/51. Naming at
    random gives -0.5. Better: on the first step the card on the table; after a right answer always the same
    suit, after a wrong one another. That is -0.10, the optimum of all policies of (card, sign of the reward),
    found by gradient descent on their value (cards taken as independent). Memory gives 1.
minigrid_memory_s7    Go to the one of two objects that is like that in the first room; 1 - 0.9 steps / 245.
    At the junction a look back shows all three. But then the agent has to turn to one side or the other, and
    one of them it had faced already in order to look back. So a policy that never chooses by chance has half
    of the games, 0.49. One that, facing that side, goes on with probability p and else looks back again is
    right with 1 - p / 2: 0.90 at the best p, 0.09 (400 games of it: 0.904 +- 0.010), the best that was found.
    Memory gives 0.98.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import header

MEMORYLESS = {"popgym_repeat_first": -0.10, "minigrid_memory_s7": 0.90}
"""The best mean return without memory, chance allowed."""
ARMS = ("rtrl", "tbptt", "lstm", "feedforward")
MODES: dict[str, list[str]] = {"greedy": ["--greedy"], "sampled": ["--sampled"]}


def run(task: str, arm: str, seed: int, runs: Path, more: list[str]) -> dict[str, Any]:
    """Trains and evaluates one run; its result as plain JSON. Raises CalledProcessError if either fails."""
    name = f"{task}-{arm}-seed{seed}"
    launch, run_dir = [sys.executable, "launch.py"], str(runs / name)
    train = ["train", f"{task}_{arm}", "--seed", str(seed), "--run-dir", run_dir, "--wandb.mode", "disabled"]
    started = time.monotonic()
    subprocess.run([*launch, *train, *more], check=True)
    result: dict[str, Any] = {"task": task, "arm": arm, "seed": seed}
    result["seconds"] = round(time.monotonic() - started, 1)
    for mode, option in MODES.items():
        path = runs / f"{name}-{mode}.json"
        subprocess.run(
            [*launch, "eval", run_dir, "--episodes", "200", "--json", str(path), *option], check=True
        )
        evaluation = json.loads(path.read_text())
        result[mode] = evaluation["episodic_return_mean"]
        result[f"{mode}_std"] = evaluation["episodic_return_std"]
    return result


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: a task and an arm a row."""
    lines = [
        "| task | best without memory | arm | seeds | greedy return of each | sampled | above it | s a run |",
        "|---" * 8 + "|",
    ]
    for task, bound in MEMORYLESS.items():
        for arm in ARMS:
            mine = [r for r in results if (r["task"], r["arm"]) == (task, arm)]
            if not mine:
                continue
            greedy, sampled = (", ".join(f"{r[mode]:.2f}" for r in mine) for mode in MODES)
            # Four standard errors of 200 games, so that luck does not count as memory.
            above = sum(r["greedy"] - 4 * r["greedy_std"] / 200**0.5 > bound for r in mine)
            seconds = statistics.median(r["seconds"] for r in mine)
            seeds = ", ".join(str(r["seed"]) for r in mine)
            lines.append(
                f"| {task} | {bound:.2f} | {arm} | {seeds} | {greedy} | {sampled} | {above} of {len(mine)} "
                f"| {seconds:.0f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["rtrl", "feedforward"])
    parser.add_argument("--tasks", nargs="+", choices=list(MEMORYLESS), default=list(MEMORYLESS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/memory-suites-benchmark"))
    options, more = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.runs.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.jsonl"
    results = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(r["task"], r["arm"], r["seed"]) for r in results}
    for seed in options.seeds:
        for task in options.tasks:
            for arm in options.arms:
                if (task, arm, seed) not in done:
                    results.append(run(task, arm, seed, options.runs, more))
                    with path.open("a") as file:
                        file.write(json.dumps(results[-1]) + "\n")
    machine = json.dumps(header(), indent=2)
    (options.out / "README.md").write_text(f"{table(results)}\n```json\n{machine}\n```\n")
    print(table(results))


if __name__ == "__main__":
    main()
