"""What exact RTRL costs on top of TBPTT, for each cell: its core gradient over a chunk, on a CPU.

    python -m benchmarks.cells                     T = 100, B = 32, as many weights in each cell

Every cell has 2 x 512 x 257 input weights (N = 512, of four gates 256) and its trace in a bank larger than
the caches, other rows each call. The two ways take turns; the ratio of each pair is of CPU times of the
process, one thread. Operation counts allow (3 + d) / 3, for the cells that store half 4 / 3; 1.6, 2.2 and 1.4
are the limits that were set."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import kernels.cells  # registers the cells  # noqa: F401
from benchmarks import pairs
from benchmarks.machine import header
from kernels.rtrl import BankedTrace, Trace, rtrl_scan
from kernels.rtrl.cell import CELLS

D = 257
INPUT_WEIGHTS = 2 * 512 * D
SETS = 8  # of B rows each in the bank
NAMES = {
    "elstm": "elstm",
    "mingru": "mingru",
    "indylstm": "indylstm",
    "rtu": "rtu_relu/exp_exp/exp",
    "block_diagonal": "block_diagonal",
    "linear_rtu": "rtu_linear/exp_exp/exp",
    "lru": "lru",
}
WARM_UP = 2


class Case:
    """One cell, its inputs and its bank."""

    def __init__(self, name: str, T: int, B: int) -> None:
        g = torch.Generator().manual_seed(0)
        self.cell = cell = CELLS[NAMES[name]]
        self.N = N = INPUT_WEIGHTS // (len(cell.gates) * D)

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            return (scale * torch.randn(*shape, generator=g)).requires_grad_()

        self.x, self.h_0 = normal(T, B, D), normal(B, cell.d, N)
        self.weights = [normal(N, D, scale=D**-0.5) for _ in cell.gates]
        self.vectors = [normal(N, scale=0.3) for _ in cell.vectors]
        self.e = torch.randn(T, B, cell.d, N, generator=g)
        self.reset = torch.rand(T, B, generator=g) < 0.01
        self.bank = Trace.zeros(cell, SETS * B, N, D)
        for tensor in self.bank:
            tensor.normal_(generator=g)
        self.calls = 0

    def cpu_ms(self, rtrl: bool) -> float:
        """Of one forward and backward, with gradients of all inputs."""
        B = self.x.shape[1]
        rows = torch.arange(B) + B * (self.calls % SETS)
        self.calls += 1
        begun = time.process_time()
        trace = BankedTrace(self.bank, rows) if rtrl else None
        h, _ = rtrl_scan(self.cell, self.x, self.weights, self.vectors, self.h_0, self.reset, trace)
        torch.autograd.grad(h, [self.x, self.h_0, *self.weights, *self.vectors], self.e)
        return 1e3 * (time.process_time() - begun)


def measure(name: str, T: int, B: int, rounds: int) -> dict[str, Any]:
    case = Case(name, T, B)
    turns = pairs.in_turns([False, True], WARM_UP + rounds)
    times = [{rtrl: case.cpu_ms(rtrl) for rtrl in order} for order in turns][WARM_UP:]
    row: dict[str, Any] = {"cell": name, "d": case.cell.d, "N": case.N}
    for way, rtrl in (("TBPTT", False), ("RTRL", True)):
        row[f"{way}_ms"] = statistics.median(ms[rtrl] for ms in times)
    return row | {"ratio": pairs.summary([ms[True] / ms[False] for ms in times])}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cells", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--size", nargs=2, type=int, default=(100, 32), metavar=("T", "B"))
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    T, B = options.size
    rows = []
    for name in options.cells:
        rows.append(measure(name, T, B, options.pairs))
        print(_line(rows[-1]), flush=True)
    result = {"machine": header() | {"torch_threads": 1}, "T": T, "B": B, "D": D, "cells": rows}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cells-cpu.json").write_text(json.dumps(result, indent=1) + "\n")
    head = "| cell | d | N | TBPTT, CPU ms | RTRL | ratio | 95 % interval |\n|---|---|---|---|---|---|---|"
    title = f"# Core gradient by exact RTRL over TBPTT, T = {T}, B = {B}, D = {D}"
    machine = f"```json\n{json.dumps(result['machine'], indent=2)}\n```"
    table = "\n".join([head, *map(_line, rows)])
    (options.out / "cells-cpu.md").write_text(f"{title}\n\n{table}\n\n{machine}\n")


def _line(row: dict[str, Any]) -> str:
    ratio = row["ratio"]
    numbers = f"{row['TBPTT_ms']:.0f} | {row['RTRL_ms']:.0f} | {ratio['median']:.2f} | "
    numbers += f"{ratio['low']:.2f} to {ratio['high']:.2f}"
    return f"| `{row['cell']}` | {row['d']} | {row['N']} | {numbers} |"


if __name__ == "__main__":
    main()
