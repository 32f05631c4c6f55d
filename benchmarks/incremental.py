"""The cost of learning at every step, against how far back credit reaches: figure 3 of arXiv 2409.01449.

    python -m benchmarks.incremental               a CPU, some minutes

One stream; at each step a prediction by a linear readout, its squared error's gradient, and a step of SGD.
By RTRL the update is an unroll of one step and one visit to the trace, and credit reaches back without end.
By TBPTT with truncation T it steps the last T inputs again, under the present weights, and differentiates
through them. Every core has about 24,000 weights, as in the paper. CPU time of the process, one thread,
medians over updates; all arms of one T take turns."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import header
from kernels.cells import Core, State, make_core
from kernels.rtrl import BankedTrace

INPUTS, WEIGHTS = 64, 24_000
ARMS = (("elstm", "RTRL"), ("rtu", "RTRL"), ("gru", "TBPTT"), ("rtu", "TBPTT"))
TRUNCATIONS = (1, 2, 4, 8, 16, 32, 64, 128)


def sized_core(name: str) -> tuple[Core, int, int]:
    """The core whose number of weights is nearest to WEIGHTS, its hidden size and that number."""

    def weights(size: int) -> int:
        return sum(p.numel() for p in make_core(name, INPUTS, size).parameters())

    size = min(range(16, 400), key=lambda size: abs(weights(size) - WEIGHTS))
    return make_core(name, INPUTS, size), size, weights(size)


class Learner:
    """One stream, and an update a step. truncation: None is RTRL."""

    def __init__(self, name: str, truncation: int | None) -> None:
        torch.manual_seed(0)
        self.core, self.size, self.weights = sized_core(name)
        self.readout = nn.Linear(self.core.output_size, 1)
        self.parameters = [*self.core.parameters(), *self.readout.parameters()]
        self.optimizer = torch.optim.SGD(self.parameters, lr=1e-4)
        self.trace = self.core.initial_trace(1) if truncation is None else None
        self.row = torch.zeros(1, dtype=torch.int64)
        self.never = torch.zeros(1 if truncation is None else truncation, 1, dtype=torch.bool)
        self.window: deque[tuple[Tensor, State]] = deque(maxlen=truncation or 1)
        """The last inputs, each with the state before it."""
        self.state = self.core.initial_state(1)

    def update(self, x: Tensor, target: Tensor) -> None:
        """x [1, INPUTS], target [1, 1]."""
        if self.trace is not None:
            ticket = BankedTrace(self.trace, self.row)
            h, state, _ = self.core.unroll(x[None], self.state, self.never, ticket)
        else:
            self.window.append((x, self.state))
            inputs = torch.stack([x for x, _ in self.window])
            h, _, _ = self.core.unroll(inputs, self.window[0][1], self.never[: len(inputs)])
            with torch.no_grad():  # the state that acting goes on from, one step at a time
                _, state = self.core.step(x, self.state, self.never[0])
        self.state = tuple(s.detach() for s in state)
        loss = (self.readout(h[-1]) - target).square().sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def measure(truncation: int, updates: int) -> dict[str, float]:
    """Median CPU ms of an update of each arm."""
    learners = {f"{name}, {way}": Learner(name, None if way == "RTRL" else truncation) for name, way in ARMS}
    times: dict[str, list[float]] = {name: [] for name in learners}
    for _ in range(truncation + updates):  # the window fills first
        x, target = torch.randn(1, INPUTS), torch.randn(1, 1)
        for name, learner in learners.items():
            begun = time.process_time()
            learner.update(x, target)
            times[name].append(1e3 * (time.process_time() - begun))
    return {name: statistics.median(ms[truncation:]) for name, ms in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--truncations", nargs="+", type=int, default=list(TRUNCATIONS))
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {name: sized_core(name)[1:] for name in dict.fromkeys(name for name, _ in ARMS)}
    rows: list[dict[str, Any]] = []
    for truncation in options.truncations:
        rows.append({"T": truncation, "ms": measure(truncation, options.updates)})
        print(_line(rows[-1]), flush=True)
    cores = {name: {"hidden_size": size, "weights": count} for name, (size, count) in sizes.items()}
    machine = header() | {"torch_threads": 1}
    options.out.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine, "inputs": INPUTS, "cores": cores, "rows": rows}
    (options.out / "incremental-cpu.json").write_text(json.dumps(result, indent=1) + "\n")
    names = " | ".join(f"{name} by {way}" for name, way in ARMS)
    table = [f"| T | {names} |", "|---" * (len(ARMS) + 1) + "|", *map(_line, rows)]
    said = ", ".join(
        f"`{name}` {core['weights']:,} (N = {core['hidden_size']})" for name, core in cores.items()
    )
    text = f"# An update a step, CPU ms, against TBPTT's truncation T\n\nWeights of the core: {said}.\n\n"
    text += "\n".join(table) + f"\n\n```json\n{json.dumps(machine, indent=2)}\n```\n"
    (options.out / "incremental-cpu.md").write_text(text)


def _line(row: dict[str, Any]) -> str:
    return f"| {row['T']} | " + " | ".join(f"{ms:.2f}" for ms in row["ms"].values()) + " |"


if __name__ == "__main__":
    main()
