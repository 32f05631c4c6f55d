"""`launch.py plot` on real runs: the numbers, the files, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import launch
from configs.presets import preset
from configs.schema import ConfigError
from experiments.curves.curves import Run, curves, group, read_run

ROW_A_UPDATE = ["--log-interval-s", "1e-9", "--wandb.mode", "disabled"]
ARMS, SEEDS, STEPS = ("memory_rtrl", "memory_tbptt"), (1, 2), 3000
FIGURES = ("charts_episodic_return", "throughput", "lag", "traces")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ARM-seedS."""
    folder = tmp_path_factory.mktemp("runs")
    for arm in ARMS:
        more = ["--diagnostics-interval", "5"] if arm == "memory_rtrl" else []
        for seed in SEEDS:
            where = ["--run-dir", str(folder / f"{arm}-seed{seed}"), "--seed", str(seed)]
            arguments = [arm, "--total-steps", str(STEPS), *where, *more, *ROW_A_UPDATE]
            assert launch.main(["train", *arguments]) == 0
    return folder


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def check_figures(out: Path, names: tuple[str, ...]) -> dict[str, str]:
    """The SVGs, in which every text stands as a comment beside its outlines."""
    assert {p.name for p in out.iterdir() if p.suffix != ".json"} == {
        f"{name}.{kind}" for name in names for kind in ("png", "svg")
    }
    assert all((out / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)
    return {name: (out / f"{name}.svg").read_text() for name in names}


def test_two_seeds_of_two_arms(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert launch.main(["plot", *map(str, sorted(runs.iterdir())), "--out", str(out)]) == 0
    svg = check_figures(out, FIGURES)
    assert "memory_rtrl (2 seeds)" in svg["charts_episodic_return"]
    assert "95 % bootstrap interval" in svg["charts_episodic_return"]
    assert "Of fewer than four seeds the interquartile mean is the mean." in svg["lag"]
    assert "agent steps/s" in svg["throughput"]
    assert "trace norm, last checkpoint" in svg["traces"] and "decay |a|" in svg["traces"]
    written = json.loads((out / "curves.json").read_text())
    assert written["rtrl/trace_norm"].keys() == {"memory_rtrl"}
    assert written["rtrl/staleness_cos"] == {}
    for arm in ARMS:
        logged = [
            {row["global_step"]: row["charts/episodic_return"] for row in rows(runs / f"{arm}-seed{seed}")
             if "charts/episodic_return" in row}
            for seed in SEEDS
        ]  # fmt: skip
        curve = written["charts/episodic_return"][arm]
        assert curve["seeds"] == list(SEEDS) and len(curve["points"]) > 10
        shared = [p for p in curve["points"] if p["step"] in logged[0] and p["step"] in logged[1]]
        assert len(shared) > 5
        for point in shared:
            a, b = (seed[point["step"]] for seed in logged)
            assert point["value"] == pytest.approx((a + b) / 2)
            assert point["interval"] == pytest.approx([min(a, b), max(a, b)])  # of two, the bootstrap's ends
    assert f"numbers: {out / 'curves.json'}" in capsys.readouterr().out


def test_one_run_has_no_interval_and_its_figures_say_so(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(runs / "memory_tbptt-seed1", tmp_path / "run")
    arguments = ["plot", str(run), "--metric", "losses/total", "--decay-steps", "0"]
    assert launch.main(arguments) == 0
    svg = check_figures(run / "plots", ("losses_total", "throughput", "lag"))
    assert all("One seed: no interval can be drawn." in text for text in svg.values())
    assert "traces: not drawn, these runs have no rtrl/trace_norm" in capsys.readouterr().out
    (arm,) = json.loads((run / "plots" / "curves.json").read_text())["losses/total"].values()
    assert [p["value"] for p in arm["points"]] == [row["losses/total"] for row in rows(run)]
    assert {p["interval"] for p in arm["points"]} == {None}


def test_a_run_whose_traces_end_with_its_process_says_so(tmp_path: Path) -> None:
    where = ["--run-dir", str(tmp_path / "run"), "--env.id", "CartPole-v1", "--policy.num-layers", "2"]
    assert launch.main(["train", "memory_rtrl", "--total-steps", "1000", *where, *ROW_A_UPDATE]) == 0
    assert launch.main(["plot", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    svg = (tmp_path / "out" / "traces.svg").read_text()
    assert "No traces in the checkpoint of memory_rtrl, seed 1." in svg
    assert "trace norm, last checkpoint" not in svg
    assert "memory_rtrl, layer 0" in svg and "memory_rtrl, layer 1" in svg


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere", "not a run directory"]),
        (["RUN", "--metric", "charts/episodic_retrun"], ["did you mean charts/episodic_return?"]),
        (["RUN", "--metric", "eval/episodic_return"], ["no row of these runs has it", "charts/SPS"]),
        (["RUN", "--by", "learning_rat"], ["no such field", "did you mean learning_rate?"]),
        (["RUN", "--decay-steps", "-1"], ["--decay-steps -1", "cannot be negative"]),
        (["RUN", "RUN"], ["are both seed 1 of 'memory_rtrl'"]),
        (["RUN", "OTHER", "--by", "learning_rate"], ["differ in", "credit"]),
        (["DAMAGED"], ["line 2 is damaged"]),
        (["UNLOGGED"], ["has no metrics.jsonl"]),
        (["NO_ENV"], ["NoSuchEnv-v0", "--decay-steps 0"]),
    ],
)
def test_bad_input_exits_with_2_and_one_message(
    arguments: list[str], words: list[str], runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, other = runs / "memory_rtrl-seed1", runs / "memory_tbptt-seed2"
    places = {"RUN": source, "OTHER": other} | {
        name: tmp_path / name for name in ("DAMAGED", "UNLOGGED", "NO_ENV")
    }
    for name in set(arguments) & {"DAMAGED", "UNLOGGED", "NO_ENV"}:
        run = shutil.copytree(source, places[name])
        metrics = run / "metrics.jsonl"
        if name == "DAMAGED":
            first, _, *rest = metrics.read_text().splitlines(keepends=True)
            metrics.write_text("".join([first, '{"global_st\n', *rest]))
        elif name == "UNLOGGED":
            metrics.unlink()
        else:
            config = (run / "config.json").read_text()
            (run / "config.json").write_text(config.replace("memory/tmaze", "NoSuchEnv-v0"))
    out = tmp_path / "out"
    command = ["plot", *(str(places.get(word, word)) for word in arguments), "--out", str(out)]
    assert launch.main(command) == 2
    printed = capfd.readouterr().err
    assert all(word in printed for word in words) and "Traceback" not in printed, printed
    assert not out.exists()


def test_the_row_that_a_running_process_writes_is_left_out(runs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(runs / "memory_rtrl-seed1", tmp_path / "run")
    whole = read_run(str(run)).rows
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"global_step": 99')
    assert read_run(str(run)).rows == whole


def test_without_matplotlib_it_says_what_to_install(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("experiments.curves.plot", "experiments.plots"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delattr("experiments.curves.plot", raising=False)
    assert launch.main(["plot", str(runs / "memory_rtrl-seed1")]) == 2
    assert "plot needs the package 'matplotlib'" in capsys.readouterr().err


# --- arms and statistics, on rows made by hand ---------------------------------------------------


def made(name: str, seed: int, steps: list[int], values: list[float], **fields: Any) -> Run:
    config = dataclasses.replace(preset(name), seed=seed, run_dir=f"somewhere/{seed}", **fields)
    rows = [{"global_step": s, "losses/total": v} for s, v in zip(steps, values, strict=True)]
    return Run(Path(f"{name}-{seed}-{fields}"), config, rows)


def test_arms_are_presets_and_what_differs_among_their_runs() -> None:
    runs = [
        made("memory_rtrl", seed, [1], [0.0], learning_rate=rate) for seed in (1, 2) for rate in (0.1, 0.2)
    ]
    runs.append(made("memory_lstm", 1, [1], [0.0], diagnostics_interval=7))
    assert {name: [run.config.seed for run in mine] for name, mine in group(runs).items()} == {
        "memory_rtrl, learning_rate 0.1": [1, 2],
        "memory_rtrl, learning_rate 0.2": [1, 2],
        "memory_lstm": [1],
    }
    assert list(group(runs[:4], ["learning_rate"])) == ["learning_rate 0.1", "learning_rate 0.2"]
    assert list(group(runs[:2], ["seed", "learning_rate"])) == [
        "seed 1, learning_rate 0.1",
        "seed 1, learning_rate 0.2",
    ]
    with pytest.raises(ConfigError, match=r"differ in learning_rate.*--by preset learning_rate"):
        group(runs, ["preset"])


def test_the_curve_is_the_interquartile_mean_between_rows_to_the_first_end() -> None:
    runs = [made("memory_rtrl", seed, [0, 100], [0.0, 10.0 * seed]) for seed in (1, 2, 3)]
    runs.append(made("memory_rtrl", 4, [0, 50, 80], [0.0, 500.0, 800.0]))
    (curve,) = curves({"arm": runs}, "losses/total").values()
    assert [point.step for point in curve.points] == [0.0, 80.0]
    end = curve.points[-1]
    assert end.value == pytest.approx((16.0 + 24.0) / 2), "the lowest and the highest of four are cut off"
    assert end.interval is not None and end.interval[0] < 20.0 < end.interval[1]
    assert np.allclose(curve.points[0].interval or [], 0.0)


def test_seeds_that_cannot_be_averaged_are_refused() -> None:
    early, late = made("memory_rtrl", 1, [0, 10], [1.0, 1.0]), made("memory_rtrl", 2, [20, 30], [1.0, 1.0])
    with pytest.raises(ConfigError, match="no steps in common"):
        curves({"arm": [early, late]}, "losses/total")
    with pytest.raises(ConfigError, match=r"memory_rtrl-3.* has no losses/total yet"):
        curves({"arm": [early, made("memory_rtrl", 3, [], [])]}, "losses/total")
    assert curves({"arm": [early, late]}, "charts/SPS") == {}
