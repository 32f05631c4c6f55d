"""What an update holds in memory and how long it takes, by arm of `passive_tmaze_1500`.

    python -m benchmarks.far_update [--rounds N] --out DIR

The arms of the experiment at its unroll of 20, and beside them TBPTT with an unroll that holds an episode, as
it would need to link choice and cue. Learners of the real kind, each on a real batch again and again, on one
thread. Held: what autograd keeps from the forward to the backward pass (each piece of memory once, weights
left out), and the traces of all streams. The arms take turns; times are medians, with 95 % bootstrap
intervals; those of the long unroll are of 75 times as many steps, so that time is also given by step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actors.policy import Policy
from benchmarks import pairs
from benchmarks.machine import header
from benchmarks.system.coupled import endless, real_batch
from configs.core import carries_traces
from configs.layout import laid_out
from configs.paths import path_argument
from configs.schema import Config
from envs.make import env_spec
from experiments.catalogue.passive_tmaze_1500 import EXPERIMENT, LENGTH
from learner.learner import Learner, seed_everything
from learner.memory import trace_bytes

EPISODE = LENGTH + 2


class Case:
    """An arm's learner and its batch."""

    def __init__(self, config: Config) -> None:
        self.config = laid_out(config, 1)
        seed_everything(1)
        self.policy = Policy(env_spec(config.env), config.policy)
        learner = Learner(self.policy, self.config, torch.device("cpu"))
        self.update = endless(learner, real_batch(self.config, torch.device("cpu")))

    @property
    def trace_bytes(self) -> int:
        """Of all streams; 0 without RTRL."""
        if not carries_traces(self.config.credit):
            return 0
        return trace_bytes(self.policy) * self.config.num_streams


def kept(update: Callable[[], object], policy: Policy) -> int:
    """Bytes that autograd keeps in an update, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in policy.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        update()
    return sum(found.values())


def cases() -> dict[str, Case]:
    whole = Case(EXPERIMENT.config("tbptt", f"--unroll-length {EPISODE}"))
    return {name: Case(EXPERIMENT.config(name)) for name in EXPERIMENT.arms} | {f"tbptt_{EPISODE}": whole}


def measure(rounds: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    arms = cases()
    held = {name: (kept(case.update, case.policy), case.trace_bytes) for name, case in arms.items()}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for order in pairs.in_turns(list(arms), rounds):
        for name in order:
            start = time.perf_counter()
            arms[name].update()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {
            "unroll": case.config.unroll_length,
            "streams": case.config.num_streams,
            "autograd_mib": held[name][0] / 2**20,
            "traces_mib": held[name][1] / 2**20,
            "update_ms": pairs.summary([1e3 * second for second in seconds[name]]),
            "step_us": pairs.summary([1e6 * s / case.config.steps_per_update for s in seconds[name]]),
        }
        for name, case in arms.items()
    }


def markdown(result: dict[str, Any]) -> str:
    """An arm a row."""
    lines = [
        "| arm | unroll | streams | autograd, MiB | traces, MiB | ms an update [95 %] | us a step [95 %] |",
        "|---" * 7 + "|",
    ]
    for name, row in result.items():
        times = [
            f"{row[key]['median']:.3g} [{row[key]['low']:.3g}, {row[key]['high']:.3g}]"
            for key in ("update_ms", "step_us")
        ]
        cells = [
            name,
            row["unroll"],
            row["streams"],
            f"{row['autograd_mib']:.2f}",
            f"{row['traces_mib']:.2f}",
        ]
        lines.append("| " + " | ".join(map(str, cells + times)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=path_argument, required=True)
    options = parser.parse_args()
    result, machine = measure(options.rounds), header()
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "far-update.json").write_text(json.dumps({"machine": machine, "arms": result}, indent=2) + "\n")
    told = f"{markdown(result)}\n`python -m benchmarks.far_update --rounds {options.rounds}`\n"
    (folder / "far-update.md").write_text(f"{told}\n```json\n{json.dumps(machine, indent=2)}\n```\n")
    print(told)


if __name__ == "__main__":
    main()
