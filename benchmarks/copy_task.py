"""How long a copy task each way of credit assignment learns, within a fixed budget on one CPU core.

    python -m benchmarks.copy_task --lengths 8 16 --seeds 1 2 3 --json FILE
    python -m benchmarks.copy_task --lengths 50 --credits rtrl --seeds 1

Every sequence has the stated length, so a bit returns exactly that many steps later; chunks are shorter
than that. `rtrl` and `tbptt` start from the same weights and see the same data in the same chunks, with
an update after each. `SETTINGS` holds the budget of each length; it is the same for both.

Length 8 starts from random parameters: what is remembered was learned, and needs credit over the whole
sequence. The longer ones start from `start_as_timers`, which holds the bits before anything is learned:
they show that the cell can copy that much and that RTRL trains it, not that truncated credit cannot.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.machine import header
from learner.copy_task import CopyModel, Credit, accuracy, copy_batch, learn, start_as_timers


@dataclass(frozen=True)
class Setting:
    hidden_size: int
    learning_rate: float
    span: int
    batches: int
    timers: bool
    recurrent_scale: float
    grad_norm_clipping: float


SETTINGS = {
    8: Setting(256, 0.02, span=4, batches=800, timers=False, recurrent_scale=1.0, grad_norm_clipping=1.0),
    16: Setting(
        256, 0.01, span=4, batches=1500, timers=True, recurrent_scale=0.1, grad_norm_clipping=math.inf
    ),
    50: Setting(
        384, 0.01, span=10, batches=4000, timers=True, recurrent_scale=0.1, grad_norm_clipping=math.inf
    ),
}
CREDITS: tuple[Credit, ...] = ("rtrl", "tbptt")
HELD_OUT = 1000
"""Sequences that accuracy is measured on."""


def measure(length: int, credit: Credit, seed: int) -> dict[str, object]:
    setting = SETTINGS[length]
    torch.manual_seed(seed)
    model = CopyModel(setting.hidden_size)
    if setting.timers:
        start_as_timers(model.core, length)
    started = time.process_time()
    losses = learn(
        model,
        lengths=(length, length),
        credit=credit,
        span=setting.span,
        batches=setting.batches,
        learning_rate=setting.learning_rate,
        recurrent_scale=setting.recurrent_scale,
        grad_norm_clipping=setting.grad_norm_clipping,
        seed=seed,
    )
    seconds = time.process_time() - started
    held_out = copy_batch(HELD_OUT, length, length, torch.Generator().manual_seed(10_000 + seed))
    sequences, bits = accuracy(model, held_out)
    last = losses[-max(1, len(losses) // 20) :]
    return {
        "length": length,
        "credit": credit,
        "seed": seed,
        "sequence_accuracy": sequences,
        "bit_accuracy": bits,
        "loss": sum(last) / len(last),
        "cpu_seconds": round(seconds, 1),
    }


def _plain(setting: Setting) -> dict[str, object]:
    """JSON has no infinity: no clipping is written as null."""
    clipping = setting.grad_norm_clipping
    return {**asdict(setting), "grad_norm_clipping": clipping if math.isfinite(clipping) else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", choices=sorted(SETTINGS), default=[8, 16])
    parser.add_argument("--credits", nargs="+", choices=CREDITS, default=list(CREDITS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    print(f"{'length':>6} {'credit':>7} {'seed':>4} {'sequences':>10} {'bits':>7} {'loss':>7} {'CPU s':>7}")
    for length in options.lengths:
        for credit in options.credits:
            for seed in options.seeds:
                result = measure(length, credit, seed)
                results.append(result)
                print(
                    f"{length:6d} {credit:>7} {seed:4d} {result['sequence_accuracy']:10.3f} "
                    f"{result['bit_accuracy']:7.4f} {result['loss']:7.4f} {result['cpu_seconds']:7.1f}",
                    flush=True,
                )
    if options.json is not None:
        settings = {length: _plain(SETTINGS[length]) for length in options.lengths}
        report = {"machine": header(), "settings": settings, "results": results}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
