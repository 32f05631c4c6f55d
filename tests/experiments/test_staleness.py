"""The measure of staleness: its check at step size 0 can fail, and what it tells of moving weights holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.schema import Config
from experiments.staleness import run as staleness
from experiments.staleness.run import AT_REST, advance_ages, distances, measure, settings, train
from kernels.elstm import ELSTMTrace
from kernels.rtrl import Trace
from learner.rtrl.history import History

RATES = (0.0, 1e-3, 3e-2)
ARGUMENTS = ["--seeds", "2", "3", "--learning-rates", "1e-3", "3e-2", "--start-steps", "2400"]
ARGUMENTS += ["--updates", "12"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the benchmark has it: on tensors this small a second thread is only waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def begun() -> tuple[Config, dict[str, Any]]:
    config = settings(length=20, seed=1)
    return config, train(config, start_steps=2400)[0]


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["staleness", "--out", str(out), *arguments])
    staleness.main()


def test_a_run_leaves_data_table_and_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run(monkeypatch, tmp_path, *ARGUMENTS)
    data = json.loads((tmp_path / "results.json").read_text())
    assert [(row["seed"], row["learning_rate"]) for row in data["results"]] == [
        (seed, rate) for seed in (2, 3) for rate in RATES
    ]
    assert data["machine"]["versions"]["torch"] and data["task"]["start_steps"] == 2400
    summary = (tmp_path / "summary.md").read_text()
    for rate in RATES:
        mine = [row["distance"] for row in data["results"] if row["learning_rate"] == rate]
        assert f"| {rate:g} | " in summary and f" {sum(mine) / 2:.1e} [{min(mine):.1e}, " in summary
    assert (tmp_path / "staleness.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "staleness.svg").read_text()


def test_staleness_is_rounding_at_rest_and_grows_with_the_step(begun: tuple[Config, dict[str, Any]]) -> None:
    rest, small, large = (measure(*begun, rate, updates=12) for rate in RATES)
    assert rest["weight_step"] == 0.0 and 0.0 < rest["distance"] <= rest["distance_max"] <= AT_REST
    assert 1e-4 < small["distance"] < large["distance"]
    for name in ("boundary_cosine", "boundary_cosine_weighted"):
        assert large[name] < small[name] < 1.0 - 1e-9
        assert rest[name] == pytest.approx(1.0, abs=1e-9)
    # An update old: built within the last unroll, by the weights before the last step; and up to five old.
    assert list(small["distance_by_updates"]) == ["1", "2", "3", "4", "5"]
    assert small["distance_by_updates"]["1"] > 1e-4
    assert rest["distance_by_updates"]["1"] < 1e-7
    assert measure(*begun, 1e-3, updates=12) == small  # the branch before left the start as it was


def test_no_number_is_shown_where_traces_at_rest_differ(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = History.fresh_traces

    def wrong(*arguments: Any) -> list[Trace]:
        return [trace.map(lambda s: 1.001 * s) for trace in right(*arguments)]

    monkeypatch.setattr(History, "fresh_traces", wrong)
    with pytest.raises(SystemExit, match=r"WRONG at step size 0: distance_max is 1\.0e-03"):
        run(monkeypatch, tmp_path, *ARGUMENTS)
    assert "distance" not in capsys.readouterr().out and list(tmp_path.iterdir()) == []


def test_a_step_size_of_0_that_moves_weights_is_refused(
    monkeypatch: pytest.MonkeyPatch, begun: tuple[Config, dict[str, Any]]
) -> None:
    monkeypatch.setattr(staleness, "NO_STEP", 1e-5)
    with pytest.raises(SystemExit, match="WRONG at step size 0: the weights moved"):
        measure(*begun, 0.0, updates=2)


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("--updates", "0", "--updates 0: at least 1"),
        ("--start-steps", "-1", "--start-steps -1: at least 0"),
        ("--learning-rates", "0", "--learning-rates 0: positive"),
    ],
)
def test_bad_input_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    argument: str,
    value: str,
    words: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, tmp_path, argument, value)
    assert stopped.value.code == 2 and words in capsys.readouterr().err


def test_ages_count_the_steps_of_the_present_episode() -> None:
    reset = torch.zeros(5, 4, dtype=torch.bool)
    reset[[0, 4, 1, 3], [1, 2, 3, 3]] = True
    assert advance_ages(torch.tensor([7, 7, 7, 7]), reset).tolist() == [12, 5, 1, 2]


def test_distance_is_relative_and_of_all_six_tensors() -> None:
    fresh = ELSTMTrace(*(torch.zeros(2, 3, 4) for _ in range(2)), *(torch.zeros(2, 3) for _ in range(4)))
    fresh.W_z[:, 0, 0], fresh.b_f[:, 2] = 3.0, 4.0  # norm 5
    carried = fresh.map(torch.clone)
    carried.W_f[1, 2, 3], carried.w_z[1, 0] = 0.6, 0.8  # off by 1
    assert distances(carried.packed(), fresh.packed()).tolist() == pytest.approx([0.0, 0.2])
