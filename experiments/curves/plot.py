"""The figures of `launch.py plot`: PNG and SVG, a panel a metric."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.schema import ConfigError
from envs.spec import EnvError
from experiments.curves.curves import LAG, THROUGHPUT, TRACES, ArmCurve, Run
from experiments.curves.trace_health import decay, unit_norms
from experiments.plots import COLOURS, SIZE_INCHES, STROKES, Axes, EngFormatter, Figure, rc_context, save
from learner.records import checkpoint
from learner.records.metrics import spec_of
from learner.records.state import join_state

Panel = Callable[[Axes], None]
Styles = Mapping[str, tuple[str, str]]
"""Colour and stroke of every arm, the same in all figures."""
BAND = (10.0, 90.0)
"""Percentiles of |a_t| over steps"""


def draw_all(
    out: Path,
    found: Mapping[str, dict[str, ArmCurve]],
    arms: dict[str, list[Run]],
    *,
    metric: str,
    decay_steps: int,
) -> list[str]:
    """Draws what the runs have, into `out`; returns a line on every figure, drawn or not.

    `found`: the curves of each metric. Raises EnvError or CheckpointError, before anything is drawn, where a
    checkpoint cannot be read or replayed.
    """
    styles = {name: style for name, *style in zip(arms, cycle(COLOURS), cycle(STROKES), strict=False)}
    styles = {name: (colour, stroke) for name, (colour, stroke) in styles.items()}
    units, reasons = _unit_panels(arms, styles, decay_steps)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be made: {error}") from error
    lines = []
    for stem, metrics in (
        (metric.replace("/", "_"), (metric,)),
        ("throughput", THROUGHPUT),
        ("lag", LAG),
        ("traces", TRACES),
    ):
        panels = [_over_time(name, found[name], styles) for name in metrics if found[name]]
        panels += units if stem == "traces" else []
        if panels:
            caption = _caption(arms, [found[name] for name in metrics])
            _draw(out / stem, panels, "\n".join([*caption, *(reasons if stem == "traces" else [])]))
            lines.append(f"{stem}: {out / stem}.png, .svg")
        else:
            lines.append(f"{stem}: not drawn, these runs have no {' or '.join(metrics)}")
    return [*lines, *reasons]


def _draw(stem: Path, panels: Sequence[Panel], caption: str) -> None:
    width, height = SIZE_INCHES
    with rc_context({"svg.hashsalt": stem.name, "font.size": 10}):
        figure = Figure((width, 0.75 * height * len(panels) + 0.4), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False)
        for axes, panel in zip(grid[:, 0], panels, strict=True):
            panel(axes)
            axes.spines[["top", "right"]].set_visible(False)
            if len(axes.get_legend_handles_labels()[1]) > 0:
                axes.legend(frameon=False, fontsize=8)
        figure.supxlabel(caption, fontsize=8, color="0.35", x=0.01, ha="left")
        save(figure, stem)


def _caption(arms: dict[str, list[Run]], shown: Sequence[dict[str, ArmCurve]]) -> list[str]:
    """What the lines and the bands are, and which arms have none."""
    names = [name for name in arms if any(name in curves for curves in shown)]
    single = [name for name in names if len(arms[name]) == 1]
    words = []
    if len(single) < len(names):
        words.append("Line: interquartile mean over seeds; band: its 95 % bootstrap interval.")
    if names and len(single) == len(names):
        words.append("One seed: no interval can be drawn.")
    elif single:
        words.append(f"One seed, so no interval: {'; '.join(single)}.")
    if any(2 <= len(arms[name]) < 4 for name in names):
        words.append("Of fewer than four seeds the interquartile mean is the mean.")
    return words


def _over_time(metric: str, curves: dict[str, ArmCurve], styles: Styles) -> Panel:
    def panel(axes: Axes) -> None:
        for name, arm in curves.items():
            colour, stroke = styles[name]
            steps = [point.step for point in arm.points]
            count = f"{len(arm.seeds)} seeds" if len(arm.seeds) > 1 else "1 seed"
            values = [point.value for point in arm.points]
            marker = "." if len(steps) == 1 else ""
            axes.plot(steps, values, stroke, marker=marker, color=colour, label=f"{name} ({count})")
            bounds = [point.interval for point in arm.points if point.interval is not None]
            if bounds:
                low, high = zip(*bounds, strict=True)
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set(xlabel="agent steps", ylabel=f"{metric} [{spec_of(metric).unit}]")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))

    return panel


def _unit_panels(
    arms: dict[str, list[Run]], styles: Styles, decay_steps: int
) -> tuple[list[Panel], list[str]]:
    """Of the newest checkpoint of every run: trace norms and |a| by unit. Also why a run is not in them."""
    norms: list[tuple[str, int, NDArray[np.float64]]] = []
    decays: list[tuple[str, int, NDArray[np.float64]]] = []
    reasons = []
    for name, runs in arms.items():
        for run in runs:
            if run.config.policy.core != "elstm":
                continue
            loaded = checkpoint.load_latest(run.path / "checkpoints")
            for message in loaded.refused:
                print(f"checkpoint refused: {message}", file=sys.stderr)
            meta = loaded.meta["state"]
            assert isinstance(meta, dict)
            state = join_state(meta, loaded.tensors)
            layers = unit_norms(state)
            if layers is not None:
                norms += [(name, layer, norm) for layer, norm in enumerate(layers)]
            elif run.config.carries_traces:
                reasons.append(f"No traces in the checkpoint of {name}, seed {run.config.seed}.")
            if decay_steps:
                try:
                    replayed = decay(run.config, state, decay_steps)
                except EnvError as error:
                    raise EnvError(f"{error}\n--decay-steps 0 draws the rest without the replay") from error
                assert replayed is not None, "the core is an eLSTM"
                decays += [(name, layer, a) for layer, a in enumerate(replayed)]
    panels = [_norms(norms, styles)] if norms else []
    return [*panels, *([_decays(decays, styles)] if decays else [])], reasons


def _label(axes: Axes, name: str, layer: int, layers: int) -> str:
    """Once for each arm and layer; further seeds go without."""
    label = f"{name}, layer {layer}" if layers > 1 else name
    return "" if label in axes.get_legend_handles_labels()[1] else label


def _norms(lines: list[tuple[str, int, NDArray[np.float64]]], styles: Styles) -> Panel:
    layers = 1 + max(layer for _, layer, _ in lines)

    def panel(axes: Axes) -> None:
        for name, layer, norm in lines:
            share = np.arange(len(norm)) / max(len(norm) - 1, 1)
            label = _label(axes, name, layer, layers)
            axes.plot(share, np.sort(norm)[::-1], color=styles[name][0], alpha=1 / (1 + layer), label=label)
        axes.set(xlabel="units, by trace norm (a line a seed)", ylabel="trace norm, last checkpoint")
        if min(norm.min() for *_, norm in lines) > 0.0:
            axes.set_yscale("log")

    return panel


def _decays(lines: list[tuple[str, int, NDArray[np.float64]]], styles: Styles) -> Panel:
    layers = 1 + max(layer for _, layer, _ in lines)

    def panel(axes: Axes) -> None:
        for name, layer, a in lines:
            low, median, high = np.percentile(a, (BAND[0], 50.0, BAND[1]), axis=0)
            order, colour = np.argsort(median)[::-1], styles[name][0]
            share = np.arange(len(order)) / max(len(order) - 1, 1)
            label = _label(axes, name, layer, layers)
            axes.plot(share, median[order], color=colour, alpha=1 / (1 + layer), label=label)
            axes.fill_between(share, low[order], high[order], color=colour, alpha=0.1, linewidth=0)
        axes.axhline(1.0, color="0.6", linewidth=0.8, zorder=0)
        band = f"percentiles {BAND[0]:g} to {BAND[1]:g} of steps"
        axes.set(
            xlabel=f"units, by median |a| (a line a seed; band: {band})",
            ylabel="decay |a| = |dc_t / dc_t-1|",
        )

    return panel
