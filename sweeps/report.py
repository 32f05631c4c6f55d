"""What a sweep has found, from its folder alone: a table, and a figure. It may be going on still."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.paths import write_whole
from experiments.plots import COLOURS, SIZE_INCHES, Axes, EngFormatter, Figure, rc_context, save
from sweeps.lives import TRIALS, Life, TrialFolder, ended
from sweeps.space import Space

PANELS = 3
"""Fields of the space that have a panel of their own, at most."""


@dataclass(frozen=True, slots=True)
class Course:
    """One trial, from its first life to its last."""

    trial: str
    lives: list[Life]
    points: list[list[tuple[int, float]]]
    """(agent steps, metric), of each life."""
    state: str
    """finished; stopped, by the scheduler; failed; unfinished"""

    @property
    def last(self) -> tuple[int, float] | None:
        """Step and value of the newest row of the last life that has one."""
        return next((life[-1] for life in reversed(self.points) if life), None)


def courses(space: Space, out: Path) -> list[Course]:
    """All trials that have begun, the best first."""
    states, found = ended(out), []
    for path in sorted((out / TRIALS).glob("*")):
        folder = TrialFolder(path)
        lives = folder.lives()
        points = [folder.points(life.life, space.metric) for life in lives]
        one = Course(path.name, lives, points, states.get(path.name, "unfinished"))
        whole = space.config(lives[-1].values).total_steps
        if one.state == "finished" and one.last and one.last[0] < whole and space.scheduler.name == "asha":
            one = dataclasses.replace(one, state="stopped")
        found.append(one)
    sign = -1.0 if space.mode == "max" else 1.0
    return sorted(found, key=lambda one: sign * one.last[1] if one.last else float("inf"))


def report(space: Space, out: Path) -> str:
    """Writes OUT/summary.json, OUT/summary.md and the figure; returns the table."""
    found = courses(space, out)
    document = {"metric": space.metric, "mode": space.mode, "trials": [_entry(one) for one in found]}
    write_whole(out / "summary.json", json.dumps(document, indent=2) + "\n")
    text = table(space, found)
    write_whole(out / "summary.md", text)
    if any(one.last for one in found):
        draw(space, found, out / "sweep")
    return text


def _entry(one: Course) -> dict[str, Any]:
    step, value = one.last or (None, None)
    lives = [asdict(life) for life in one.lives]
    return {"trial": one.trial, "state": one.state, "step": step, "value": value, "lives": lives}


def table(space: Space, found: Sequence[Course]) -> str:
    """Markdown: a line a trial, the best first."""
    copies = ["taken from"] if space.scheduler.name == "pbt" else []
    head = ["trial", "state", "steps", space.metric, *space.space, *copies]
    lines = [head, ["---"] * len(head)]
    for one in found:
        step, value = one.last or (0, float("nan"))
        taken = [", ".join(f"{life.origin} at {life.step:,}" for life in one.lives if life.origin) or "-"]
        values = [_short(one.lives[-1].values[name]) for name in space.space]
        lines.append([one.trial, one.state, f"{step:,}", f"{value:.4g}", *values, *(taken if copies else [])])
    begun = f"{len(found)} of {space.trials} trials of `{space.preset}` begun"
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    values = f"the values of {'the last life' if copies else 'each'}"
    return f"{begun}; {space.metric} is the newest, {space.mode} is best; {values}.\n\n{rows}\n"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(space: Space, found: Sequence[Course], stem: Path) -> None:
    """The metric over steps, a line a trial; below it each field of numbers: over steps where it changes
    (PBT), else the trial's newest value against it."""
    shown = space.mutated if space.scheduler.name == "pbt" else space.space
    every = [life.values for one in found for life in one.lives]
    numbers = [name for name in shown if all(_is_number(values[name]) for values in every)][:PANELS]
    width, height = SIZE_INCHES
    with rc_context({"svg.hashsalt": space.preset, "font.size": 10}):
        figure = Figure((width, height * (1 + 0.55 * len(numbers))), layout="constrained")
        grid = figure.subplots(
            1 + len(numbers), 1, squeeze=False, height_ratios=[1.0, *[0.55] * len(numbers)]
        )[:, 0]
        _metric_panel(grid[0], space, found)
        for axes, name in zip(grid[1:], numbers, strict=True):
            (_schedule_panel if space.scheduler.name == "pbt" else _against_panel)(axes, space, found, name)
        for axes in grid:
            axes.spines[["top", "right"]].set_visible(False)
        save(figure, stem)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _metric_panel(axes: Axes, space: Space, found: Sequence[Course]) -> None:
    for index, one in enumerate(found):
        colour, label = COLOURS[index % len(COLOURS)], one.trial
        for life, points in zip(one.lives, one.points, strict=True):
            axes.plot(
                [s for s, _ in points], [v for _, v in points], color=colour, linewidth=1.2, label=label
            )
            label = None
            if life.origin is not None and points:
                axes.plot(*points[0], "o", color=colour, markersize=5)
    axes.set(xlabel="agent steps", ylabel=space.metric, title=f"{space.preset}: {space.scheduler.name}")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if len(found) <= len(COLOURS):
        axes.legend(frameon=False, fontsize=8)


def _schedule_panel(axes: Axes, space: Space, found: Sequence[Course], name: str) -> None:
    for index, one in enumerate(found):
        for life, points in zip(one.lives, one.points, strict=True):
            if points:
                value = life.values[name]
                axes.plot([life.step, points[-1][0]], [value, value], color=COLOURS[index % len(COLOURS)])
    axes.set(xlabel="agent steps", ylabel=name)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    _scale(axes.set_yscale, space, name)


def _against_panel(axes: Axes, space: Space, found: Sequence[Course], name: str) -> None:
    for index, one in enumerate(found):
        if one.last is not None:
            axes.plot(one.lives[-1].values[name], one.last[1], "o", color=COLOURS[index % len(COLOURS)])
    axes.set(xlabel=name, ylabel=space.metric)
    _scale(axes.set_xscale, space, name)


def _scale(set_scale: Any, space: Space, name: str) -> None:
    if "loguniform" in space.space[name]:
        set_scale("log")
