"""How far each way of credit assignment learns to copy, within a fixed budget on one CPU core.

    python -m experiments.copy_task.run --json FILE                             all cases, three seeds
    python -m experiments.copy_task.run --cases copy-50 --credits rtrl --seeds 1

`rtrl` and `tbptt` start from the same weights and see the same data in the same chunks. `CASES` holds the
budget of each case, the same for both: an update after each chunk, for copy-50 one for a whole sequence.

    copy-8                   8 bits, each back after 8 steps, chunks of 4, from random parameters
    recall-50, recall-50-6   4 and 6 bits, each back after 50 steps, chunks of 10, from random parameters
    copy-16, copy-50         every sequence of the stated length, from `start_as_timers`: the bits are held
                             before anything is learned. RTRL is seen to train that, not to be needed for it
    counting-50              what the paper's authors released: lengths 1 to 50, no bit need be remembered
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.machine import header
from experiments.copy_task.data import CopyBatch, copying, counting, delayed
from experiments.copy_task.training import (
    CopyModel,
    Credit,
    Updates,
    accuracy,
    learn,
    start_as_timers,
    start_with_spread_memory,
)
from kernels.cells.elstm.core import ELSTM


@dataclass(frozen=True)
class Case:
    data: Callable[[int, int, int, torch.Generator], CopyBatch]
    """Of a batch size, the two numbers of `shape`, and a generator."""
    shape: tuple[int, int]
    hidden_size: int
    learning_rate: float
    span: int
    batches: int
    updates: Updates = "chunk"
    start: Callable[[ELSTM, int], None] | None = None
    recurrent_scale: float = 1.0
    grad_norm_clipping: float = 1.0

    def draw(self, batch: int, generator: torch.Generator) -> CopyBatch:
        return self.data(batch, *self.shape, generator)


_timers = partial(Case, copying, start=start_as_timers, learning_rate=0.01, grad_norm_clipping=math.inf)
_spread = partial(Case, start=start_with_spread_memory, span=10)
CASES = {
    "copy-8": Case(copying, (8, 8), hidden_size=256, learning_rate=0.02, span=4, batches=800),
    "recall-50": _spread(delayed, (4, 50), hidden_size=128, learning_rate=0.02, batches=1500),
    "recall-50-6": _spread(delayed, (6, 50), hidden_size=256, learning_rate=0.01, batches=4000),
    "counting-50": _spread(counting, (1, 50), hidden_size=64, learning_rate=0.01, batches=1500),
    "copy-16": _timers((16, 16), hidden_size=256, span=4, batches=700, recurrent_scale=0.1),
    "copy-50": _timers(
        (50, 50), hidden_size=512, span=10, batches=2500, recurrent_scale=0.03, updates="sequence"
    ),
}
CREDITS: tuple[Credit, ...] = ("rtrl", "tbptt")
HELD_OUT = 1000
"""Sequences that accuracy is measured on."""


def measure(name: str, credit: Credit, seed: int) -> dict[str, object]:
    case = CASES[name]
    torch.manual_seed(seed)
    model = CopyModel(case.hidden_size)
    if case.start is not None:
        case.start(model.core, case.shape[1])
    started = time.process_time()
    losses = learn(
        model,
        case.draw,
        credit=credit,
        span=case.span,
        updates=case.updates,
        batches=case.batches,
        learning_rate=case.learning_rate,
        recurrent_scale=case.recurrent_scale,
        grad_norm_clipping=case.grad_norm_clipping,
        seed=seed,
    )
    seconds = time.process_time() - started
    sequences, steps = accuracy(model, case.draw(HELD_OUT, torch.Generator().manual_seed(10_000 + seed)))
    last = losses[-max(1, len(losses) // 20) :]
    return {
        "case": name,
        "credit": credit,
        "seed": seed,
        "sequence_accuracy": sequences,
        "step_accuracy": steps,
        "loss": sum(last) / len(last),
        "cpu_seconds": round(seconds, 1),
    }


def _plain(case: Case) -> dict[str, object]:
    """For JSON, which has neither functions nor infinity: no clipping is written as null."""
    clipping = case.grad_norm_clipping
    return {
        **asdict(case),
        "data": case.data.__name__,
        "start": case.start and case.start.__name__,
        "grad_norm_clipping": clipping if math.isfinite(clipping) else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--credits", nargs="+", choices=CREDITS, default=list(CREDITS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    print(f"{'case':>12} {'credit':>7} {'seed':>4} {'sequences':>10} {'steps':>7} {'loss':>7} {'CPU s':>7}")
    for name in options.cases:
        for credit in options.credits:
            for seed in options.seeds:
                result = measure(name, credit, seed)
                results.append(result)
                print(
                    f"{name:>12} {credit:>7} {seed:4d} {result['sequence_accuracy']:10.3f} "
                    f"{result['step_accuracy']:7.4f} {result['loss']:7.4f} {result['cpu_seconds']:7.1f}",
                    flush=True,
                )
    if options.json is not None:
        settings = {name: _plain(CASES[name]) for name in options.cases}
        report = {"machine": header(), "settings": settings, "results": results}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
