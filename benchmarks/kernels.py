"""The kernels, by size: time, bytes, operations, memory, against the step-by-step loop and against TBPTT.

    python -m benchmarks.kernels --quick                    a CPU, some minutes
    python -m benchmarks.kernels                            a GPU, all sizes
    python -m benchmarks.kernels --sizes 100,32,512         chosen ones: T,B,N

Correctness comes first: every way to compute is held to float64 at every size (with two batch columns), and
one that fails ends the run before any speed of that size is printed. Then medians: CUDA events on a GPU, the
wall clock on a CPU. The ways of one size take turns, call by call. One call is the core's forward and
backward, with gradients of x, c_0 and all weights. Traces are rows of a bank larger than the caches, other
rows each call, as in training.

On a CPU with one thread the CPU time of the process stands beside the wall clock: neighbours on the machine
disturb it less, and ratios and fractions rest on it. Fractions are of the copy bandwidth and of the
float32 matrix rate, measured in the same run. With `--repeats`, all sizes are gone through again, and each
number is the median over the repeats; `ms_runs` and `cpu_ms_runs` keep those of each.

At T = 1, where a chunk is one step (online learning), the trace op and the eLSTM are timed apart.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernels_cases import BANK_BYTES, CPU_WAYS, GPU_WAYS, Case, Way, check, count
from benchmarks.kernels_report import save, steady_ms
from kernels.trace import advance_trace_
from kernels.vtrace import Backend, vtrace

SIZES = list(itertools.product((10, 50, 100), (32, 256), (256, 512, 1024)))  # T, B, N
QUICK = [(10, 32, 256), (50, 32, 256), (100, 32, 512)]
PARTS = (100, 32, 512)
"""The size at which the trace op and V-trace are timed apart."""
TINY = (10, 4, 64)
WARM_UP, AT_LEAST, AT_MOST = 2, 5, 50  # calls


def medians(functions: Mapping[str, Callable[[], object]], device: str, budget_s: float) -> dict[str, Any]:
    """Median ms of each function, called in turn for about `budget_s` each; on a CPU also its CPU time."""
    wall: dict[str, list[float]] = {name: [] for name in functions}
    cpu: dict[str, list[float]] = {name: [] for name in functions}
    started = time.perf_counter()
    for i in range(WARM_UP + AT_MOST):
        for name, function in functions.items():
            if device == "cuda":
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                function()
                end.record()
                end.synchronize()
                elapsed, busy = begin.elapsed_time(end), None
            else:
                begin_s, begin_cpu = time.perf_counter(), time.process_time()
                function()
                elapsed, busy = 1e3 * (time.perf_counter() - begin_s), 1e3 * (time.process_time() - begin_cpu)
                busy = busy if torch.get_num_threads() == 1 else None
            if i >= WARM_UP:
                wall[name].append(elapsed)
                cpu[name] += [] if busy is None else [busy]
        if i >= WARM_UP + AT_LEAST - 1 and time.perf_counter() - started > budget_s * len(functions):
            break
    return {
        name: {"ms": statistics.median(ms), "cpu_ms": statistics.median(cpu[name]) if cpu[name] else None}
        for name, ms in wall.items()
    }


def ceilings(device: str, budget_s: float, tiny: bool) -> dict[str, float]:
    """Copy bandwidth, read plus write, in GB/s; float32 matrix rate at the present precision, in GFLOP/s."""
    numbers, n = (2**28, 8192) if device == "cuda" else (2**25, 2048)
    if tiny:
        numbers, n = 2**16, 64
    source = torch.empty(numbers, device=device).normal_()
    target = torch.empty_like(source)
    a, b = (torch.randn(n, n, device=device) for _ in range(2))
    times = medians({"copy": lambda: target.copy_(source), "matrix": lambda: a @ b}, device, budget_s)
    copied, operations = 8e-6 * source.numel(), 2e-6 * n**3
    return {
        "copy_GB_s": copied / steady_ms(times["copy"]),
        "matrix_GFLOP_s": operations / steady_ms(times["matrix"]),
    }


def parts(device: str, budget_s: float, size: tuple[int, int, int], bank_bytes: int) -> dict[str, float]:
    """The trace op alone by T (at T = 1 it must not cost more than in a chunk), the eLSTM at T = 1, and
    V-trace, in ms."""
    T, B, N = size
    functions: dict[str, Callable[[], object]] = {}
    for steps in sorted({1, min(10, T), min(50, T), T}):
        case = Case(steps, B, N, device, torch.float32, bank_bytes)
        lam, decay = torch.randn(B, 1, 1, N, device=device), torch.rand(B, 1, 1, N, device=device)
        update, x = torch.randn(steps, B, 1, 2, N, device=device), case.inputs[0].detach()

        def visit(case=case, lam=lam, decay=decay, update=update, x=x):
            precision = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"
            return advance_trace_(
                case.bank.matrices, case.next_rows(), lam, decay, update, x, precision=precision
            )

        functions[f"trace op, T = {steps}"] = visit
    one = Case(1, B, N, device, torch.float32, bank_bytes)
    for way in GPU_WAYS if device == "cuda" else CPU_WAYS:
        if way.cell == "elstm":
            functions[f"core gradient, {way.name}, T = 1"] = lambda way=way: one.run(way)
    rhos, rewards, discounts, values, next_values = (torch.randn(T, B, device=device) for _ in range(5))
    continues = torch.rand(T, B, device=device) > 0.01
    backends: list[Backend] = ["reference", "triton"] if device == "cuda" else ["reference"]
    for backend in backends:

        def targets(backend: Backend = backend):
            return vtrace(rhos, rewards, discounts, values, next_values, continues, backend=backend)

        functions[f"V-trace, {backend}, T = {T}"] = targets
    return {name: steady_ms(times) for name, times in medians(functions, device, budget_s).items()}


def peak_mib(case: Case, way: Way, device: str) -> float | None:
    """Device memory that a call takes beyond its inputs and the bank; None on a CPU, and for a graph, which
    has its memory to itself."""
    if device != "cuda" or way.captured:
        return None
    case.run(way)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    case.run(way)
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def measure(
    ways: list[Way],
    size: tuple[int, int, int],
    device: str,
    budget_s: float,
    ceiling: dict[str, float],
    bank_bytes: int,
) -> list[dict[str, Any]]:
    T, B, N = size
    errors = check(ways, T, N, device)
    case = Case(T, B, N, device, torch.float32, bank_bytes)
    peaks = {way.name: peak_mib(case, way, device) for way in ways}
    times = medians({way.name: (lambda way=way: case.run(way)) for way in ways}, device, budget_s)
    rows = []
    for way in ways:
        flops, moved = count(way, T, B, N)
        ms = steady_ms(times[way.name])
        row: dict[str, Any] = {"T": T, "B": B, "N": N, "way": way.name, **times[way.name]}
        row |= {"gigabytes": 1e-9 * moved, "bandwidth_fraction": 1e-6 * moved / ms / ceiling["copy_GB_s"]}
        row |= {"gigaflops": 1e-9 * flops, "matrix_fraction": 1e-6 * flops / ms / ceiling["matrix_GFLOP_s"]}
        rows.append(row | {"peak_MiB": peaks[way.name], "error": errors[way.name]})
    return rows


def merge(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of several of the same size and way: medians of what was measured, and the single times."""
    merged = dict(runs[0])
    for key, value in runs[0].items():
        if isinstance(value, float) and key != "error":
            merged[key] = statistics.median(run[key] for run in runs)
    for key in ("ms", "cpu_ms"):
        merged[f"{key}_runs"] = [run[key] for run in runs]
    return merged


def use_precision(precision: str) -> None:
    """Of float32 products, in matrix products and in cuDNN's LSTM alike."""
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.rnn.fp32_precision = precision  # pyright: ignore[reportAttributeAccessIssue]


def _size(text: str) -> tuple[int, int, int]:
    T, B, N = map(int, text.split(","))
    return T, B, N


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three sizes, for a CPU")
    parser.add_argument("--tiny", action="store_true", help="no measurement: to see that it runs")
    parser.add_argument("--sizes", nargs="+", type=_size, metavar="T,B,N", help="these sizes and no other")
    parser.add_argument("--repeats", type=int, default=1, help="goes through all sizes so many times")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--budget-s", type=float, default=2.0, help="time for each median")
    options = parser.parse_args()
    tiny, budget_s = options.tiny, 0.01 if options.tiny else options.budget_s
    bank_bytes = 0 if tiny else BANK_BYTES
    sizes = options.sizes or ([TINY] if tiny else QUICK if options.quick else SIZES)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(options.threads)
    ways = GPU_WAYS if device == "cuda" else CPU_WAYS
    runs: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    limits, alone = {}, {}
    for precision in ("ieee", "tf32") if device == "cuda" else ("ieee",):
        use_precision(precision)
        limits[precision] = ceilings(device, budget_s, tiny)
        alone[precision] = parts(device, budget_s, TINY if tiny else PARTS, bank_bytes)
        for T, B, N in [size for _ in range(options.repeats) for size in sizes]:
            for row in measure(ways, (T, B, N), device, budget_s, limits[precision], bank_bytes):
                runs.setdefault((precision, T, B, N, row["way"]), []).append({"precision": precision, **row})
                print(f"{precision} T={T} B={B} N={N} {row['way']}: {row['ms']:.2f} ms", flush=True)
            results = [merge(rows) for rows in runs.values()]
            save(options.out, f"kernels-{device}", results, limits, alone, options.threads)


if __name__ == "__main__":
    main()
