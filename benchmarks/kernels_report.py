"""Results of `benchmarks.kernels` as JSON, as a table, and as a plot."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.machine import header


def save(
    folder: Path,
    name: str,
    results: list[dict[str, Any]],
    ceilings: dict[str, dict[str, float]],
    parts: dict[str, dict[str, float]],
    threads: int,
) -> None:
    """Writes NAME.json, NAME.md and, where matplotlib is installed (extra `plot`), NAME.png into `folder`."""
    machine = header() | {"torch_threads": threads, "niceness": os.nice(0)}
    data = {"machine": machine, "ceilings": ceilings, "parts_ms": parts, "results": results}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / f"{name}.md").write_text(_markdown(results, ceilings, parts, machine))
    if importlib.util.find_spec("matplotlib") is None:
        print(f"no {name}.png: matplotlib is not installed", flush=True)
    else:
        _plot(folder / f"{name}.png", results)


def steady_ms(row: dict[str, Any]) -> float:
    """The time that ratios rest on: CPU time where it was taken, else the clock."""
    return row["ms"] if row["cpu_ms"] is None else row["cpu_ms"]


def _tbptt(results: list[dict[str, Any]], row: dict[str, Any]) -> float:
    """Time of the fastest TBPTT of the same size and precision, in ms."""
    same = ("T", "B", "N", "precision")
    return min(
        steady_ms(r)
        for r in results
        if r["way"].startswith("TBPTT") and all(r[field] == row[field] for field in same)
    )


def _markdown(
    results: list[dict[str, Any]],
    ceilings: dict[str, dict[str, float]],
    parts: dict[str, dict[str, float]],
    machine: dict[str, Any],
) -> str:
    names = "precision, T, B, N, way, ms, CPU ms, x TBPTT, GB, of copy, GFLOP, of matrix, peak MiB, error"
    columns = "| " + " | ".join(names.split(", ")) + " |"
    lines = ["# Core gradients, by size and way", "", columns, "|---" * 14 + "|"]
    for r in results:
        cells = [r["precision"], r["T"], r["B"], r["N"], r["way"]]
        cells += [_number(r["ms"], ".2f"), _number(r["cpu_ms"], ".2f")]
        cells += [_number(steady_ms(r) / _tbptt(results, r), ".2f"), _number(r["gigabytes"], ".3f")]
        cells += [_number(r["bandwidth_fraction"], ".2f"), _number(r["gigaflops"], ".1f")]
        cells += [
            _number(r["matrix_fraction"], ".2f"),
            _number(r["peak_MiB"], ".0f"),
            _number(r["error"], ".0e"),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "Measured in the same run: ceilings, and parts alone (B = 32, N = 512) in ms.", ""]
    for precision, ceiling in ceilings.items():
        lines += [f"- {precision}, {name}: {value:.1f}" for name, value in ceiling.items()]
        lines += [f"- {precision}, {name}: {value:.3f}" for name, value in parts[precision].items()]
    explanation = (
        "x TBPTT: time in units of the fastest eLSTM TBPTT of the same size. GB and GFLOP are counted, "
    )
    lines += ["", explanation + "not measured; of copy, of matrix: fractions of the ceilings.", ""]
    lines += ["```json", json.dumps(machine, indent=2), "```", ""]
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    """ "-" for what was not measured."""
    return "-" if value is None else format(value, form)


def _plot(path: Path, results: list[dict[str, Any]]) -> None:
    backend = os.environ.pop("MPLBACKEND", None)  # no backend is needed; a missing one fails the import
    try:
        from matplotlib.figure import Figure
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend

    sizes = list(dict.fromkeys((r["precision"], r["T"], r["B"], r["N"]) for r in results))
    ways = list(dict.fromkeys(r["way"] for r in results))
    figure = Figure((3 + 1.2 * len(sizes), 5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(ways)
    for i, way in enumerate(ways):
        rows = {(r["precision"], r["T"], r["B"], r["N"]): r for r in results if r["way"] == way}
        heights = [steady_ms(rows[size]) / _tbptt(results, rows[size]) for size in sizes]
        axes.bar(
            [x + (i - len(ways) / 2 + 0.5) * width for x in range(len(sizes))], heights, width, label=way
        )
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_ylabel("time of a core gradient, in TBPTTs")
    axes.set_xticks(range(len(sizes)), [f"{p}\nT={T}\nB={B}\nN={N}" for p, T, B, N in sizes])
    axes.set_ylim(bottom=0.7)
    figure.legend(loc="outside upper center", fontsize="small", ncols=2)
    figure.savefig(path, dpi=120)
