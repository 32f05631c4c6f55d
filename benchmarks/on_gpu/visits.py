"""The trace op alone, by tile: GB/s, and the fraction of the measured copy.

    python -m benchmarks.on_gpu.visits --out DIR

A visit is timed inside a CUDA graph of several, over rows of a bank larger than the caches, so that no Python
is in it. Bytes are the trace's, read once and written once; D = 257 pads its inputs by a copy, 272 does not.
On a CPU (interpreter or not) the kernels are not timed: the torch form is, to see that the script runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import header
from kernels.trace import PRECISIONS, advance_trace_

SIZES = [(50, 32), (100, 32), (50, 128), (100, 128)]  # T, B
N, K, WIDTH = 512, 2, 272
VISITS, REPLAYS = 8, 20


def milliseconds(call: Callable[[int], object], device: str) -> float:
    """Median of one call; `call(i)` is the i-th, which takes other rows."""
    if device == "cpu":
        times = []
        for i in range(3):
            start = time.perf_counter()
            call(i)
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # compiles
        call(0)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(VISITS):
            call(i)
    times = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / VISITS)
    return statistics.median(times)


def copy_rate(device: str) -> float:
    """GB/s, read plus write."""
    source = torch.empty(2**28 if device == "cuda" else 2**22, device=device).normal_()
    target = torch.empty_like(source)
    return 8e-6 * source.numel() / milliseconds(lambda i: target.copy_(source), device)


def measure(T: int, B: int, D: int, device: str, copy: float, units: int = N) -> list[dict[str, Any]]:
    """A row for each precision and tile."""
    sets = 4 if device == "cuda" else 1
    bank = torch.zeros(sets * B, K, 1, units, WIDTH, device=device)
    bank[..., :D].normal_()
    lam, decay = torch.randn(B, 1, 1, units, device=device), torch.rand(B, 1, 1, units, device=device)
    update, x = 0.1 * torch.randn(T, B, 1, K, units, device=device), torch.randn(T, B, D, device=device)
    rows = [torch.arange(B, device=device) + B * i for i in range(sets)]
    ways: list[tuple[str, str, Callable[[int], object]]] = []
    if device == "cuda":
        from kernels.trace.triton import Tile, advance_trace_triton, choose_tile

        def visit_by(precision: str, tile: Tile) -> Callable[[int], object]:
            arguments = lam, decay, update, x, precision, tile
            return lambda i: advance_trace_triton(bank, rows[i % sets], *arguments)

        for precision in PRECISIONS:
            chosen = choose_tile(1, 1, precision)
            others = [
                Tile(),
                Tile(d=64),
                Tile(n=128, d=32),
                Tile(n=128, d=64, warps=16),
                Tile(d=128, warps=16),
            ]
            tiles = [chosen, *(tile for tile in others if tile != chosen and precision != "ieee")]
            for tile in tiles:
                label = f"{tile.n} x {tile.d}, {tile.warps} warps" + ", chosen" * (tile == chosen)
                ways.append((precision, label, visit_by(precision, tile)))
    else:
        ways.append(("torch", "", lambda i: advance_trace_(bank, rows[0], lam, decay, update, x)))
    found = []
    for precision, tile, visit in ways:
        row: dict[str, Any] = {"T": T, "B": B, "D": D, "precision": precision, "tile": tile}
        try:
            ms = milliseconds(visit, device)
        except Exception as error:  # a tile that does not fit this GPU is a result, and stops no other
            row["error"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        else:
            moved = 8e-6 * B * K * units * WIDTH / ms
            row |= {"us": 1e3 * ms, "GB_s": moved, "of_copy": moved / copy}
        print(json.dumps(row), flush=True)
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    copy = copy_rate(device)
    print(f"copy: {copy:.0f} GB/s", flush=True)
    results: list[dict[str, Any]] = []
    for T, B in [(10, 4)] if options.quick else SIZES:
        for D in (WIDTH, 257):
            results += measure(T, B, D, device, copy, 64 if options.quick else N)
            data = {"machine": header(), "copy_GB_s": copy, "visits": results}
            (options.out / "visits.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
