"""Figures of an experiment: the metric against steps, or its end against a swept parameter. PNG and SVG."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from experiments.catalogue import Experiment
from experiments.summary import Curve, mean_interval

# Figures are written without a backend. One that MPLBACKEND names (a notebook's, in whatever was started
# from there) and that is not installed would make the import fail; so matplotlib is imported here, first.
_backend = os.environ.pop("MPLBACKEND", None)
try:
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend

# The palette of Okabe and Ito, which colour-blind readers can tell apart; the strokes help too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STROKES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SIZE_INCHES = (7.0, 4.2)


def draw(experiment: Experiment, result: dict[str, Any], curves: Sequence[Curve], stem: Path) -> None:
    """Writes `stem`.png and `stem`.svg; the same result gives the same files."""
    with rc_context({"svg.hashsalt": experiment.name, "font.size": 10}):
        figure = Figure(SIZE_INCHES, layout="constrained")
        axes = figure.subplots()
        if experiment.plot == "curve":
            _curves(axes, experiment, curves)
        else:
            _sweep(axes, experiment, result)
        for name, level in _levels(experiment).items():
            axes.axhline(level, color="0.6", linewidth=0.8, zorder=0)
            axes.annotate(
                name,
                (1.0, level),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color="0.4",
                fontsize=8,
            )
        axes.set(xlabel=experiment.x_label, ylabel=experiment.metric, title=experiment.name)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
        save(figure, stem)


def _levels(experiment: Experiment) -> dict[str, float]:
    if experiment.chance is None:
        return {}
    if experiment.best is None:
        return {"chance": experiment.chance}
    return {"no memory": experiment.chance, "best": experiment.best}


def save(figure: Figure, stem: Path) -> None:
    """Writes `stem`.png and `stem`.svg, without the date."""
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        figure.savefig(stem.with_name(stem.name + suffix), dpi=150, metadata=metadata)


def _curves(axes: Axes, experiment: Experiment, curves: Sequence[Curve]) -> None:
    """Mean over seeds of each window, in a band that is its 95 % bootstrap interval."""
    for name, colour, stroke in zip(experiment.arms, cycle(COLOURS), cycle(STROKES), strict=False):
        mine = [curve for curve in curves if curve.arm == name]
        if not mine:
            continue
        by_step: dict[int, list[float]] = {}
        for curve in mine:
            for window in curve.windows:
                by_step.setdefault(window.step, []).append(window.value)
        steps = sorted(by_step)
        axes.plot(steps, [statistics.fmean(by_step[s]) for s in steps], stroke, color=colour, label=name)
        bands = [(step, interval) for step in steps if (interval := mean_interval(by_step[step]))]
        low, high = [b[0] for _, b in bands], [b[1] for _, b in bands]
        axes.fill_between([step for step, _ in bands], low, high, color=colour, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _sweep(axes: Axes, experiment: Experiment, result: dict[str, Any]) -> None:
    """The end of each arm against its x, a line a series; the bar is the 95 % bootstrap interval."""
    arms = list(result["arms"].values())
    series = dict.fromkeys(arm.series for arm in experiment.arms.values())
    for name, colour, marker in zip(series, cycle(COLOURS), cycle(MARKERS), strict=False):
        mine = sorted((arm for arm in arms if arm["series"] == name), key=lambda arm: arm["x"])
        if not mine:
            continue
        mean = [arm["mean"] for arm in mine]
        bounds = [arm["mean_interval"] or (arm["mean"], arm["mean"]) for arm in mine]
        # Rounding can put a bound on the wrong side of a mean that all seeds share.
        below = [max(m - low, 0.0) for m, (low, _) in zip(mean, bounds, strict=True)]
        above = [max(high - m, 0.0) for m, (_, high) in zip(mean, bounds, strict=True)]
        axes.errorbar(
            [arm["x"] for arm in mine],
            mean,
            yerr=[below, above],
            marker=marker,
            color=colour,
            capsize=3,
            label=name,
        )
    if experiment.log_x:
        axes.set_xscale("log")
    ticks = sorted({arm["x"] for arm in arms})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
