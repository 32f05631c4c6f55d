"""The experiment runner on real runs: what it leaves, that it goes on, and that no failure is swallowed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

import launch
from command_line import with_fields
from configs.presets import preset
from configs.schema import Config, ConfigError
from envs.make import check_env
from envs.registry import suite_of
from experiments.catalogue import Arm, Experiment, get, names
from experiments.runner import ROOT, conduct, parse, plan
from experiments.tmaze import CHANCE, SOLVED, success
from tests.integration.cli import PATIENCE_S, runs, wait_until

STEPS = 4000
ARGUMENTS = ["tmaze", "--arms", "rtrl", "tbptt", "--seeds", "3", "5", "--jobs", "2"]


def experiment(**arms: str) -> Experiment:
    """Arms by their overrides."""
    return Experiment(
        name="tmaze",
        description="A small one.",
        arms={name: Arm(preset="memory_tbptt", overrides=overrides) for name, overrides in arms.items()},
        total_steps=STEPS,
        metric="success",
        of_return=success,
        chance=CHANCE,
        solved=SOLVED,
    )


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    timed = ("wall_time", "charts/SPS", "perf/", "queue/")
    return {name: value for name, value in row.items() if not name.startswith(timed)}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms, two seeds, as a user would start them."""
    out = tmp_path_factory.mktemp("experiment")
    result = subprocess.run(
        [sys.executable, "launch.py", "experiment", *ARGUMENTS, "--total-steps", str(STEPS), "--out", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 runs, 0 of them finished before" in result.stdout
    return out


def test_every_run_is_kept_with_rows_at_the_same_steps(done: Path) -> None:
    for name in ("rtrl-seed3", "rtrl-seed5", "tbptt-seed3", "tbptt-seed5"):
        config = Config.from_json((done / "runs" / name / "config.json").read_text())
        arm, _, seed = name.partition("-seed")
        assert (config.credit, config.seed, config.total_steps) == (arm, int(seed), STEPS)
        assert (config.runtime, config.wandb.mode) == ("inline", "disabled")
        steps = [row["global_step"] for row in rows(done / "runs" / name / "metrics.jsonl")]
        assert steps == list(range(80, STEPS + 1, 80))  # 50 windows of 4000 / 50 steps


def test_results_and_summary_are_what_the_runs_wrote(done: Path) -> None:
    results, summary = rows(done / "results.jsonl"), json.loads((done / "summary.json").read_text())
    assert {row["metric"] for row in results} == {"success"}
    assert list(summary["arms"]) == ["rtrl", "tbptt"]
    for arm, its in summary["arms"].items():
        by_hand = {}
        for seed in ("3", "5"):
            games = [
                (row["global_step"], row["charts/episodes"], (row["charts/window_return"] + 1) / 2)
                for row in rows(done / "runs" / f"{arm}-seed{seed}" / "metrics.jsonl")
                if "charts/episodes" in row
            ]
            mine = [row for row in results if (row["arm"], row["seed"]) == (arm, int(seed))]
            assert [(row["step"], row["episodes"], row["value"]) for row in mine] == games
            last = [(episodes, value) for step, episodes, value in games if step > 0.9 * STEPS]
            by_hand[seed] = sum(n * value for n, value in last) / sum(n for n, _ in last)
        assert its["final"] == pytest.approx(by_hand, rel=1e-12)
        assert its["mean"] == pytest.approx(sum(by_hand.values()) / 2, rel=1e-12)
        # Of two seeds, a quarter of the resamples holds the lower one twice: it is the 2.5 % point.
        assert its["mean_interval"] == pytest.approx(sorted(by_hand.values()), rel=1e-12)
        assert (its["solved"], its["runs"]) == (0, 2)
        assert its["solved_interval"] == pytest.approx([0.0, 1 - 0.025**0.5])
    assert summary["failed"] == []
    assert summary["machine"]["versions"]["torch"]


def test_the_table_and_the_figures_are_there(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    text = (done / "summary.md").read_text()
    for arm, its in summary["arms"].items():
        assert f"| {arm} | 4,000 | 3, 5 | {its['mean']:.3f} [" in text
    assert get("tmaze").description in text
    assert (done / "tmaze.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (done / "tmaze.svg").read_text()


def test_a_finished_experiment_is_not_repeated_and_an_unfinished_run_starts_again(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["experiment", *ARGUMENTS, "--total-steps", str(STEPS), "--out", str(done)]
    written = {path: path.stat().st_mtime_ns for path in (done / "runs").rglob("*")}
    before = (done / "results.jsonl").read_text()
    assert launch.main(command) == 0
    assert "4 runs, 4 of them finished before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (done / "runs").rglob("*")} == written
    assert (done / "results.jsonl").read_text() == before

    record, metrics = done / "runs/rtrl-seed3.json", done / "runs/rtrl-seed3/metrics.jsonl"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seconds": None}))
    first = [without_times(row) for row in rows(metrics)]
    metrics.write_text("half a li")
    assert launch.main(command) == 0
    assert "4 runs, 3 of them finished before" in capsys.readouterr().out
    assert [without_times(row) for row in rows(metrics)] == first  # the same run, from its seed
    assert (done / "results.jsonl").read_text() == before


def test_runs_of_other_settings_or_origin_are_left_alone(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["experiment", *ARGUMENTS, "--total-steps"]
    assert launch.main([*command, "9000", "--out", str(done)]) == 2
    assert "is a run with other settings" in capsys.readouterr().err
    mine = tmp_path / "runs/tbptt-seed5/checkpoints"
    mine.mkdir(parents=True)
    assert launch.main([*command, str(STEPS), "--out", str(tmp_path)]) == 2
    assert "was not made by this experiment" in capsys.readouterr().err
    assert mine.exists()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tbptt-seed5"]


def test_one_experiment_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(ConfigError, match="in use by another experiment"):
        conduct(experiment(good=""), out=tmp_path, arms=["good"], seeds=[0], jobs=1)


def test_a_failed_run_is_told_and_the_others_finish(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = experiment(bad="--env.id memory/tmaize", good="")
    assert conduct(both, out=tmp_path, arms=["bad", "good"], seeds=[0], jobs=1) == 1
    printed = capsys.readouterr().out
    assert "bad, seed 0: FAILED with exit code 2:" in printed
    assert "memory/tmaze" in printed  # what the run itself had to say
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["failed"] == [{"arm": "bad", "seed": 0, "exit_code": 2}]
    assert list(summary["arms"]) == ["good"]
    assert summary["arms"]["good"]["mean_interval"] is None  # of one seed
    assert "**Failed: bad, seed 0, exit code 2.**" in (tmp_path / "summary.md").read_text()


def test_a_run_that_is_too_short_is_told_and_the_others_are_summed_up(tmp_path: Path) -> None:
    both = experiment(bad="--env.memory.length-min 900 --env.memory.length-max 900", good="")
    assert conduct(both, out=tmp_path, arms=["bad", "good"], seeds=[0], jobs=1) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["short"] == [{"arm": "bad", "seed": 0}] and summary["failed"] == []
    assert list(summary["arms"]) == ["good"]
    assert "**Too short: bad, seed 0." in (tmp_path / "summary.md").read_text()


def test_a_folder_is_of_one_experiment(tmp_path: Path) -> None:
    ours = replace(experiment(good=""), name="ours")
    assert conduct(ours, out=tmp_path, arms=["good"], seeds=[0], jobs=1) == 0
    before = (tmp_path / "summary.json").read_text()
    with pytest.raises(ConfigError, match="holds the experiment ours"):
        conduct(replace(ours, name="theirs"), out=tmp_path, arms=["good"], seeds=[1], jobs=1)
    assert (tmp_path / "summary.json").read_text() == before
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match="is no folder that can be written to"):
        conduct(ours, out=file, arms=["good"], seeds=[0], jobs=1)


def test_a_run_that_still_trains_is_not_begun_anew(tmp_path: Path) -> None:
    """What an experiment that was killed leaves behind."""
    ours = experiment(good="")
    (left,) = plan(ours, tmp_path, ["good"], [0], None)
    left.folder.mkdir(parents=True)
    left.write_record(None)
    (left.folder / "metrics.jsonl").write_text("rows\n")
    with FileLock(left.folder / ".lock"), pytest.raises(ConfigError, match=r"a run is left.*is in use by"):
        conduct(ours, out=tmp_path, arms=["good"], seeds=[0], jobs=1)
    assert (left.folder / "metrics.jsonl").read_text() == "rows\n"
    assert conduct(ours, out=tmp_path, arms=["good"], seeds=[0], jobs=1) == 0
    assert (left.folder / "metrics.jsonl").read_text() != "rows\n"


def test_an_interrupted_experiment_leaves_no_run_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "launch.py",
            "experiment",
            *ARGUMENTS,
            "--total-steps",
            "9999999",
            "--out",
            tmp_path,
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    wait_until((tmp_path / "runs/tbptt-seed3/checkpoints").exists, of=process)
    children = psutil.Process(process.pid).children()  # the runs, not what one asks for its commit
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert len(children) == 2
    assert not any(map(runs, children))
    assert json.loads((tmp_path / "runs/rtrl-seed3.json").read_text())["seconds"] is None
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tmaize"], ["unknown experiment 'tmaize'", "Did you mean 'tmaze'", "tmaze_b"]),
        (["tmaze", "--arms", "rtrl", "gru"], ["--arms gru", "rtrl, tbptt, lstm"]),
        (["tmaze", "--seeds", "1", "2", "1"], ["--seeds 1 2 1", "twice"]),
        (["tmaze", "--jobs", "0"], ["--jobs 0", "at least 1"]),
        (["tmaze", "--seeds", "3", "-1"], ["--seeds = -1", "needs 0 to"]),
        (["tmaze", "--seeds", "3", str(10**20)], [f"--seeds = {10**20}", "needs 0 to"]),
        (["tmaze", "--total-steps", "0"], ["--total-steps 0"]),
    ],
)
def test_bad_input_is_refused(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.main(["experiment", *arguments, "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", names())
def test_every_arm_is_a_config_that_can_run(name: str, tmp_path: Path) -> None:
    named = get(name)
    for run in plan(named, tmp_path, list(named.arms), [0], None):
        config = with_fields(preset(run.arguments[0]), run.arguments[1:], "train")
        for package in suite_of(config.env.id).packages:
            pytest.importorskip(package)
        check_env(config.env)
        assert config.total_steps == named.steps(run.arm)
        assert config.log_interval_steps * 50 == config.total_steps
        if name in ("tmaze", "tmaze_b", "tmaze_delay"):  # no unroll links cue and choice
            assert config.unroll_length <= config.env.memory.quiet + 1
        # The gradient of the mean loss is clipped at 1, as the presets have it, whatever the unroll.
        if config.optimizer == "adam" and config.preset.startswith("memory_"):
            assert config.grad_norm_clipping == config.steps_per_update


def test_an_arm_takes_what_another_has_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = "--policy.encoder mlp --policy.features 4"
    after = Arm(
        preset="memory_rtrl",
        overrides=f"{encoder} --policy.load-encoder {{before}} --policy.freeze-encoder",
        after="first",
    )
    both = experiment(bad=f"{encoder} --learning-rate -1", first=encoder)
    both = replace(both, arms={"then": after, **both.arms, "orphan": replace(after, after="bad")})
    assert conduct(both, out=tmp_path, arms=list(both.arms), seeds=[0], jobs=2) == 1
    printed = capsys.readouterr().out
    assert printed.index("first, seed 0") < printed.index("then, seed 0")
    failed = json.loads((tmp_path / "summary.json").read_text())["failed"]
    assert {failure["arm"] for failure in failed} == {"bad", "orphan"}
    first, then = (
        load_file(max((tmp_path / f"runs/{arm}-seed0/checkpoints").iterdir()) / "tensors.safetensors")
        for arm in ("first", "then")
    )
    names = [name for name in first if name.startswith("policy/encoder.")]
    assert names
    assert all(torch.equal(first[name], then[name]) for name in names)


def test_an_arm_without_the_one_it_takes_from_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="rtrl_after: takes what tbptt_first has learned: name that one too"
    ):
        parse(["pretrain_then_rtrl", "--arms", "rtrl_after"])
