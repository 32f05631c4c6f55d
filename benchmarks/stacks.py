"""How far a stack's gradient by RTRL is off the exact one, below the top: a table by cell and unroll.

    python -m benchmarks.stacks                     two layers, float64, some minutes on one core

Exact is full backpropagation over the joined unrolls (TBPTT of one unroll of all steps). Ours sums over the
unrolls each one's own gradient, each layer with the exact trace of its own state. Random weights, inputs and
direct gradients, and a reset every hundred steps or so; radii between 0.9 and 0.999 at the start, minGRU's
forget bias 3, so that there is a past. Medians over seeds of the relative error in norm, and of the cosine,
of the lower layer's recurrent parameters; the same without traces (TBPTT) beside it. The top layer's is
printed too: its error is rounding."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from kernels.cells import Core, make_core

T, B, D, N = 512, 4, 8, 16
CELLS: dict[str, dict[str, Any]] = {
    "linear_rtu": {"r_min": 0.9, "r_max": 0.999},
    "lru": {"r_min": 0.9, "r_max": 0.999},
    "mingru": {"forget_bias": 3.0},
}
UNROLLS = (1, 4, 16, 64, 256)


def gradient(core: Core, x: Tensor, reset: Tensor, e: Tensor, unroll: int, carry: bool) -> list[Tensor]:
    """Of sum(e * h) by all recurrent parameters, over unrolls of that length; `carry`: the traces."""
    parameters = core.recurrent_parameters()
    total = [torch.zeros_like(p) for p in parameters]
    state, trace = core.initial_state(B), core.initial_trace(B) if carry else None
    for start in range(0, T, unroll):
        here = slice(start, start + unroll)
        h, state, trace = core.unroll(x[here], tuple(s.detach() for s in state), reset[here], trace)
        parts = torch.autograd.grad((e[here] * h).sum(), parameters)
        total = [a + b for a, b in zip(total, parts, strict=True)]
    return total


def compare(ours: Sequence[Tensor], exact: Sequence[Tensor]) -> tuple[float, float]:
    """Relative error in norm, and cosine, of all tensors as one vector."""
    a, b = (torch.cat([t.flatten() for t in tensors]) for tensors in (ours, exact))
    return float((a - b).norm() / b.norm()), float(cosine_similarity(a, b, dim=0))


def measure(name: str, seed: int) -> dict[int, dict[str, tuple[float, float]]]:
    """By unroll: error and cosine of the lower layer by RTRL and by TBPTT, and of the top layer by RTRL."""
    torch.manual_seed(seed)
    core = make_core(name, D, N, num_layers=2, **CELLS[name]).double()
    x, e = torch.randn(T, B, D).double(), torch.randn(T, B, core.output_size).double()
    reset = torch.rand(T, B) < 0.01
    exact, found = gradient(core, x, reset, e, T, carry=False), {}
    half = len(exact) // 2
    for unroll in UNROLLS:
        rtrl, tbptt = (gradient(core, x, reset, e, unroll, carry) for carry in (True, False))
        found[unroll] = {
            "RTRL": compare(rtrl[:half], exact[:half]),
            "TBPTT": compare(tbptt[:half], exact[:half]),
            "top": compare(rtrl[half:], exact[half:]),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| cell | unroll | RTRL: error | cosine (lowest) | TBPTT: error | cosine | top layer, error |")
    print("|---|---|---|---|---|---|---|")
    for name in CELLS:
        runs = [measure(name, seed) for seed in range(options.seeds)]
        for unroll in UNROLLS:
            error, cosine = {}, {}
            for way in ("RTRL", "TBPTT", "top"):
                error[way], cosine[way] = zip(*(run[unroll][way] for run in runs), strict=True)
            middle = {way: statistics.median(error[way]) for way in error}
            across = {way: statistics.median(cosine[way]) for way in cosine}
            lowest = min(cosine["RTRL"])
            print(
                f"| `{name}` | {unroll} | {middle['RTRL']:.2f} | {across['RTRL']:.3f} ({lowest:.3f}) "
                f"| {middle['TBPTT']:.2f} | {across['TBPTT']:.3f} | {middle['top']:.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
