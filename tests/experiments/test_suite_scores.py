"""A suite's aggregates over levels and seeds, from the files that evaluation writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.scores import score_table
from experiments.suite_scores import aggregate_runs, main


def _runs(seed: int, runs: int) -> list[dict[str, float]]:
    scores = np.round(np.random.default_rng(seed).normal(size=(runs, 16)) * 20 + 50, 3)
    return [dict(zip(score_table("procgen-easy"), row, strict=True)) for row in scores]


def test_values_and_intervals_are_those_of_rliable() -> None:
    found = aggregate_runs("procgen-easy", _runs(seed=1, runs=3))
    # rliable 1.2.0 on the same scores: aggregate_mean and aggregate_iqm, intervals of 20000 resamples
    assert found["mean"]["value"] == pytest.approx(48.629625)
    assert found["iqm"]["value"] == pytest.approx(49.27341667)
    assert found["mean"]["interval"] == pytest.approx([44.49, 52.76], abs=0.2)
    assert found["iqm"]["interval"] == pytest.approx([45.45, 53.29], abs=0.2)


def test_one_run_has_no_interval() -> None:
    found = aggregate_runs("procgen-hard", _runs(seed=1, runs=1))
    assert [entry["interval"] for entry in found.values()] == [None, None]


def test_levels_are_resampled_by_themselves() -> None:
    """Runs that differ between levels only, not within one, leave nothing to doubt."""
    run = dict(zip(score_table("procgen-easy"), np.linspace(0, 100, 16), strict=True))
    found = aggregate_runs("procgen-easy", [run, run, run])
    assert found["mean"] == {"value": pytest.approx(50.0), "interval": [pytest.approx(50.0)] * 2}


def _result(path: Path, level: str, seed: int, score: float, **protocol: Any) -> str:
    written = {
        "training_seed": seed,
        "greedy": True,
        "score_suite": "atari57",
        "scores": {level: score} if level else {},
        "protocol": {"env_id": f"ALE/{level}", "num_actions": seed + 4, "sticky_actions": 0.0} | protocol,
    }
    path.write_text(json.dumps(written))
    return str(path)


def test_results_of_one_seed_are_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        _result(tmp_path / f"{level}{seed}.json", level, seed, 10.0 * seed + len(level))
        for level in ("pong", "breakout")
        for seed in (1, 2)
    ]
    out = tmp_path / "out.json"
    assert main([*files, "--partial", "--json", str(out)]) == 0
    assert "atari57, 2 of 57 levels, training seeds [1, 2]" in capsys.readouterr().out
    assert json.loads(out.read_text())["aggregates"]["mean"]["value"] == pytest.approx(21.0)
    assert main(files) == 2
    assert "55 of 57 levels are missing" in capsys.readouterr().err


def test_results_that_do_not_belong_together_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pong = _result(tmp_path / "pong.json", "pong", 1, 50.0)
    sticky = _result(tmp_path / "sticky.json", "qbert", 1, 50.0, sticky_actions=0.25)
    none = _result(tmp_path / "none.json", "", 1, 50.0)
    for files, words in (
        ([pong, sticky], "sticky_actions is 0.25"),
        ([pong, pong], "a second result of pong, seed 1"),
        ([none], "has no normalised score"),
    ):
        assert main([*files, "--partial"]) == 2
        assert words in capsys.readouterr().err
