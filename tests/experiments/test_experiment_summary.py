"""From windows to numbers, intervals and figures, on windows made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from experiments.catalogue import Arm, Experiment
from experiments.plots import draw
from experiments.summary import (
    Curve,
    Window,
    markdown,
    mean_interval,
    read_curves,
    share_interval,
    summarise,
    write_results,
)

SWEEP = Experiment(
    name="lengths",
    description="Two series at two lengths.",
    arms={
        f"{series}_{x}": Arm(preset=f"memory_{series}", series=series, x=x, total_steps=100 * x)
        for series in ("rtrl", "tbptt")
        for x in (10, 20)
    },
    total_steps=1000,
    metric="success",
    of_return=lambda mean: (mean + 1) / 2,
    chance=0.5,
    solved=0.95,
    plot="sweep",
    x_label="length",
    log_x=True,
)


ERRORS = Experiment(
    name="errors",
    description="An error, of evaluations.",
    arms={"rtu": Arm(preset="memory_rtrl")},
    total_steps=1000,
    metric="MSRE",
    reads="eval/return_error",
    lower_is_better=True,
    chance=0.13,
    best=0.012,
    solved=0.024,
    digits=4,
)


def curve(arm: str = "rtrl_10", seed: int = 0, *windows: tuple[int, float, int]) -> Curve:
    return Curve(arm, seed, total_steps=1000, seconds=2.0, windows=[Window(*w) for w in windows])


def test_the_last_tenth_counts_games_not_windows() -> None:
    run = curve("rtrl_10", 0, (900, 0.0, 50), (950, 0.5, 1), (1000, 1.0, 3))
    assert run.final == (0.5 * 1 + 1.0 * 3) / 4  # the window that ends at 900 is before it


def test_a_run_without_a_game_in_its_last_tenth_is_short() -> None:
    assert not curve("rtrl_10", 4, (901, 1.0, 5)).short
    run = curve("rtrl_10", 4, (900, 1.0, 5))
    with pytest.raises(ValueError, match="rtrl_10, seed 4: no game"):
        _ = run.final
    assert run.short


def test_steps_to_solved_is_the_end_of_the_first_window_that_is_good_enough() -> None:
    run = curve("rtrl_10", 0, (100, 0.5, 9), (200, 0.95, 9), (300, 0.2, 9), (400, 1.0, 9))
    at = {solved: run.steps_to_solved(replace(SWEEP, solved=solved)) for solved in (0.95, 0.96, 1.01)}
    assert at == {0.95: 200, 0.96: 400, 1.01: None}
    few = curve("rtrl_10", 0, (100, 1.0, 4), (200, 1.0, 5))
    assert few.steps_to_solved(SWEEP) == 200, "four games are luck"
    lower = {solved: run.steps_to_solved(replace(ERRORS, solved=solved)) for solved in (0.5, 0.3, 0.1)}
    assert lower == {0.5: 100, 0.3: 300, 0.1: None}


class Run(NamedTuple):
    arm: str
    seed: int
    total_steps: int
    folder: Path

    def seconds(self) -> float:
        return 1.0


def test_an_error_is_read_from_evaluations_and_the_least_is_best(tmp_path: Path) -> None:
    rows = [
        {"global_step": 500, "charts/window_return": 9.0, "charts/episodes": 3},
        {"global_step": 500, "eval/return_error": 0.5, "eval/episodes": 32},
        {"global_step": 1000, "eval/return_error": 0.02, "eval/episodes": 32, "charts/episodes": 7},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curves = read_curves([Run("rtu", 0, 1000, tmp_path)], ERRORS)
    assert curves[0].windows == [Window(500, 0.5, 32), Window(1000, 0.02, 32)]
    result = summarise(ERRORS, curves, jobs=1) | {"failed": []}
    arm = result["arms"]["rtu"]
    assert (arm["mean"], arm["solved"], arm["steps_to_solved"]) == (0.02, 1, {"0": 1000})
    text = markdown(ERRORS, result)
    assert "| 0.0200 | 0.0200, 0.0200 | 1 of 1 " in text
    assert "(eval/return_error) of the evaluations in the last tenth" in text
    assert "without memory 0.13 at best, with it 0.012" in text and "solved: at most 0.024" in text
    worse = summarise(ERRORS, [curve("rtu", 0, (1000, 0.3, 32))], jobs=1)["arms"]["rtu"]
    assert (worse["solved"], worse["steps_to_solved"]) == (0, {"0": None})
    beside = replace(ERRORS, beside="charts/window_return", chance=None)
    curves = read_curves([Run("rtu", 0, 1000, tmp_path)], beside)
    table = markdown(beside, summarise(beside, curves, jobs=1) | {"failed": []})
    assert "| s a run | charts/window_return |" in table and "| 1 | 9 |" in table
    assert "without memory has is an arm" in table
    draw(ERRORS, result, curves, tmp_path / "errors")
    figure = (tmp_path / "errors.svg").read_text()
    assert "<!-- no memory -->" in figure and "<!-- best -->" in figure and "<!-- chance -->" not in figure


def test_intervals() -> None:
    assert mean_interval([0.7]) is None
    assert mean_interval([0.7, 0.7, 0.7]) == pytest.approx([0.7, 0.7])
    assert mean_interval([1.0, 0.5]) == pytest.approx([0.5, 1.0])
    low, high = mean_interval([0.4, 0.5, 0.5, 0.6, 1.0]) or (0.0, 0.0)
    # Oracle: all 5**5 resamples, instead of some at random.
    means = np.stack(np.meshgrid(*[[0.4, 0.5, 0.5, 0.6, 1.0]] * 5)).reshape(5, -1).mean(axis=0)
    exact = np.quantile(means, [0.025, 0.975])
    np.testing.assert_allclose([low, high], exact, atol=0.0201)  # one place in the grid of means
    assert share_interval(5, 5) == pytest.approx([0.025 ** (1 / 5), 1.0])
    assert share_interval(0, 20) == pytest.approx([0.0, 1 - 0.025 ** (1 / 20)])


def sweep_curves() -> list[Curve]:
    return [
        curve(arm, seed, (500, 0.5, 9), (1000, value, 9))
        for arm, values in (("rtrl_10", (1.0, 0.98)), ("rtrl_20", (0.9, 1.0)), ("tbptt_10", (0.5, 0.52)))
        for seed, value in enumerate(values)
    ]


def test_a_sweep_is_summed_up_and_drawn_the_same_every_time(tmp_path: Path) -> None:
    curves = sweep_curves()
    result = summarise(SWEEP, curves, jobs=3) | {"failed": []}
    assert list(result["arms"]) == ["rtrl_10", "rtrl_20", "tbptt_10"]  # tbptt_20 has no finished run
    point = result["arms"]["rtrl_20"]
    assert (point["series"], point["x"], point["solved"], point["runs"]) == ("rtrl", 20, 1, 2)
    assert point["steps_to_solved"] == {"0": None, "1": 1000}
    assert [point["mean"], *point["mean_interval"]] == pytest.approx([0.95, 0.9, 1.0])
    failed = [{"arm": "tbptt_20", "seed": seed, "exit_code": 1} for seed in (0, 4)]
    failed.append({"arm": "tbptt_20", "seed": 5, "exit_code": 2})
    table = markdown(SWEEP, result | {"failed": failed})
    assert "**Failed: tbptt_20, seeds 0, 4, exit code 1.**" in table
    assert "**Failed: tbptt_20, seed 5, exit code 2.**" in table
    json.dumps(result, allow_nan=False)

    text = markdown(SWEEP, result)
    assert "| rtrl_20 | 1,000 | 0, 1 | 0.950 [0.900, 1.000] | 0.900, 1.000 | 1 of 2 [0.01, 0.99] " in text
    assert "| 1,000 (1 of 2) | 2 |" in text
    assert "| never | 2 |" in text

    for name in ("a", "b"):
        draw(SWEEP, result, curves, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    write_results(tmp_path / "results.jsonl", curves, SWEEP)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(lines) == 12
    row = {"arm": "rtrl_10", "seed": 0, "step": 500, "metric": "success", "value": 0.5, "episodes": 9}
    assert json.loads(lines[0]) == row


def test_a_sweep_without_points_is_refused() -> None:
    with pytest.raises(AssertionError, match="a sweep's arms have series and x"):
        Experiment(**{**vars(SWEEP), "arms": {"rtrl": Arm(preset="memory_rtrl")}})
