"""Results of `experiments.staleness.run` as JSON, as a table, and as a figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.machine import header
from experiments.summary import mean_interval

Rows = Sequence[dict[str, Any]]
"""Of one seed and learning rate each, as `experiments.staleness.run.measure` gives them."""


def save(
    folder: Path, results: Rows, *, length: int, start_steps: int, returns: dict[int, float | None]
) -> None:
    """Writes results.json, summary.md, staleness.png and .svg. ImportError without the extra `plot`.

    `returns`: by seed, mean return of the games before the branches began; None where no game had ended.
    """
    task = {"preset": "memory_rtrl", "length": length, "start_steps": start_steps, "start_return": returns}
    folder.mkdir(parents=True, exist_ok=True)
    data = {"machine": header(), "task": task, "results": list(results)}
    (folder / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / "summary.md").write_text(_markdown(data))
    _plot(folder / "staleness", results, length)


def _by_rate(results: Rows) -> dict[float, list[dict[str, Any]]]:
    rates = sorted({row["learning_rate"] for row in results})
    return {rate: [row for row in results if row["learning_rate"] == rate] for rate in rates}


def _over_seeds(rows: Rows, name: str, form: str) -> str:
    """Mean over seeds and, of two or more, its 95 % bootstrap interval."""
    values = [row[name] for row in rows]
    interval = mean_interval(values)
    bounds = "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"
    return f"{fmean(values):{form}}{bounds}"


def _markdown(data: dict[str, Any]) -> str:
    results, task = data["results"], data["task"]
    by_rate, seeds = _by_rate(results), sorted({row["seed"] for row in results})
    spans = sorted({int(n) for row in results for n in row["distance_by_updates"]})
    shown = list(dict.fromkeys(spans[i * (len(spans) - 1) // 4] for i in range(5)))
    begun = ", ".join("none" if r is None else f"{r:.2f}" for r in task["start_return"].values())
    lines = [
        "# Carried against fresh traces, by step size",
        "",
        f"`memory_rtrl`, a corridor of {task['length']} steps in unrolls of 5, Adam at a constant rate, "
        f"{results[0]['updates']} updates a seed and rate, seeds {', '.join(map(str, seeds))}; each begins "
        f"from the same seed's run after {task['start_steps']:,} agent steps (mean return of the 200 games "
        f"before: {begun}). Means over updates and seeds; in brackets the 95 % bootstrap interval over "
        "seeds. What the columns mean is told in `experiments/staleness/run.py`.",
        "",
        "| learning rate | weight step | distance | 1 - gradient cosine | worst update | 1 - boundary cosine "
        "| weighted by norm | worst update | boundary share |",
        "|---" * 9 + "|",
    ]
    for rate, rows in by_rate.items():
        lost = [{name: 1.0 - row[name] for name in row if "cosine" in name} for row in rows]
        cells = [f"{rate:g}", _over_seeds(rows, "weight_step", ".1e"), _over_seeds(rows, "distance", ".1e")]
        for name in ("gradient_cosine", "boundary_cosine"):
            cells.append(_over_seeds(lost, name, ".1e"))
            if name == "boundary_cosine":
                cells.append(_over_seeds(lost, f"{name}_weighted", ".1e"))
            cells.append(f"{max(row[f'{name}_min'] for row in lost):.1e}")
        cells.append(_over_seeds(rows, "boundary_share", ".2f"))
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Distance by the number of updates that a trace has been carried over, from the one that learned "
        "from its episode's first step:",
        "",
        "| learning rate | " + " | ".join(f"{n}" for n in shown) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for rate, rows in by_rate.items():
        spanned = [[r["distance_by_updates"].get(str(n)) for r in rows] for n in shown]
        known = [[value for value in its if value is not None] for its in spanned]
        cells = [f"{fmean(its):.1e}" if its else "-" for its in known]
        lines.append(f"| {rate:g} | {' | '.join(cells)} |")
    lines += [
        "",
        "Step size 0 is the check: distances and losses of cosine there are rounding, of float32, and every "
        "run is held to it.",
        "",
        "```json",
        json.dumps(data["machine"], indent=2),
        "```",
        "",
    ]
    return "\n".join(lines)


def _plot(stem: Path, results: Rows, length: int) -> None:
    """Distance, and what the cosines have lost, against the learning rate; both axes logarithmic."""
    from experiments.plots import COLOURS, MARKERS, Figure, rc_context, save

    by_rate = _by_rate(results)
    moving = {rate: rows for rate, rows in by_rate.items() if rate > 0.0}
    at_rest = max(row["distance_max"] for row in by_rate[0.0])
    lost = {
        rate: [{n: 1.0 - r[n] for n in r if "cosine" in n} for r in rows] for rate, rows in moving.items()
    }
    panels = (
        ("|S_carried - S_fresh| / |S_fresh|", {"trace": ("distance", moving)}),
        (
            "1 - cosine to the gradient from fresh traces",
            {
                "whole gradient": ("gradient_cosine", lost),
                "boundary term": ("boundary_cosine", lost),
                "the same, weighted by norm": ("boundary_cosine_weighted", lost),
            },
        ),
    )
    with rc_context({"svg.hashsalt": "staleness", "font.size": 10}):
        figure = Figure((9.0, 4.0), layout="constrained")
        both = figure.subplots(1, 2)
        for axes, (label, lines) in zip(both, panels, strict=True):
            for (name, (field, table)), colour, marker in zip(
                lines.items(), cycle(COLOURS), cycle(MARKERS), strict=False
            ):
                values = [[row[field] for row in rows] for rows in table.values()]
                means = [fmean(its) for its in values]
                bounds = [mean_interval(its) or (m, m) for its, m in zip(values, means, strict=True)]
                errors = [
                    [max(m - low, 0.0) for m, (low, _) in zip(means, bounds, strict=True)],
                    [max(high - m, 0.0) for m, (_, high) in zip(means, bounds, strict=True)],
                ]
                axes.errorbar(
                    list(table), means, yerr=errors, marker=marker, color=colour, capsize=3, label=name
                )
            axes.set(xscale="log", yscale="log", xlabel="learning rate (Adam)", ylabel=label)
            axes.set_xticks(list(moving), [f"{rate:g}" for rate in moving])
            axes.minorticks_off()
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=9)
        figure.suptitle(
            f"Staleness of carried traces, T-maze of {length} steps; at step size 0: at most {at_rest:.0e}"
        )
        save(figure, stem)
