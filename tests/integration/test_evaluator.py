"""Evaluations beside training: they change nothing, they are logged, and their failures end nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

import launch as launch_module
from actors.play.evaluator import InlineEvaluator
from actors.policy import Policy
from configs.presets import preset
from configs.schema import EvalConfig
from envs.make import env_spec
from learner.publish import LocalPublisher
from learner.records.checkpoint import load_latest
from tests.envs.suites.dmlab.fake_deepmind_lab import install
from tests.faulty_env import FAULT_VARIABLE
from tests.integration.cli import PATIENCE_S, Launch, read_metrics, rows_logged, wait_until

FAULTY = ["--env.id", "tests.faulty_env:Faulty-v0", "--policy.encoder", "none"]
QUIET = ["--wandb.mode", "disabled", "--log-interval-s", "1e-9"]
EVERY = ["--eval.interval-steps", "400", "--eval.episodes", "6"]


def _train(run: Path, *more: str) -> list[dict[str, float]]:
    arguments = ["train", "memory_rtrl", "--total-steps", "1600", "--run-dir", str(run), *QUIET, *more]
    assert launch_module.main(arguments) == 0
    return read_metrics(run)


def test_training_is_the_same_with_and_without_evaluations(tmp_path: Path) -> None:
    rows = _train(tmp_path / "with", *EVERY)
    _train(tmp_path / "without")
    with_evaluations, without = (load_latest(tmp_path / name / "checkpoints") for name in ("with", "without"))
    assert with_evaluations.tensors.keys() == without.tensors.keys()
    for name, tensor in without.tensors.items():
        assert torch.equal(tensor, with_evaluations.tensors[name]), name
    evaluated = [row for row in rows if "eval/episodic_return" in row]
    assert [row["eval/global_step"] for row in evaluated] == [400, 800, 1200, 1600]
    assert all(row["eval/episodes"] == 6 and row["eval/episodic_length"] == 22 for row in evaluated)


def test_evaluations_use_the_newest_weights() -> None:
    config = preset("memory_rtrl")
    policy, publisher = Policy(env_spec(config.env), config.policy), LocalPublisher()
    evaluator = InlineEvaluator(config, publisher.source)
    lengths = []
    for version, action in enumerate((0, 1)):
        with torch.no_grad():
            policy.policy_head.bias.copy_(torch.tensor([100.0, -100.0]).roll(action))
        publisher.publish(policy, version)
        assert evaluator.request(version, lambda: False)
        finished = evaluator.finished()
        assert finished is not None and finished.version == version
        lengths.append([episode.episodic_return for episode in finished.evaluation.episodes])
        assert evaluator.finished() is None, "once"
    assert lengths[0] == [-r for r in lengths[1]], "the same games, and the other answer to each cue"


def test_the_step_is_that_of_the_weights_that_played(tmp_path: Path) -> None:
    """Published at every third update: 16 columns of 5 steps, so at 240, 480, ..."""
    rows = _train(tmp_path / "run", *EVERY, "--publish-interval", "3")
    evaluated = [row["eval/global_step"] for row in rows if "eval/episodic_return" in row]
    assert evaluated == [240, 720, 1200, 1440, 1600], "asked for at 400, 800, 1200, 1600, and the last"


def test_eval_plays_the_very_games_of_the_evaluation_beside_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, result = tmp_path / "run", tmp_path / "result.json"
    rows = _train(run, *EVERY)
    said = capsys.readouterr().out
    assert "every 400 steps an evaluation: 6 games, sampled, levels as configured, seed 1000001" in said
    last = [row for row in rows if "eval/episodic_return" in row][-1]
    assert launch_module.main(["eval", str(run), "--json", str(result)]) == 0
    alone = json.loads(result.read_text())
    assert alone["episodic_return_mean"] == last["eval/episodic_return"]
    assert alone["episodic_return_std"] == last["eval/episodic_return_std"] > 0
    assert (alone["episodes"], alone["greedy"], alone["seed"]) == (6, False, 1_000_001)
    assert alone["global_step"] == last["eval/global_step"] == 1600
    said = capsys.readouterr().out
    for words in ("6 games, sampled", "levels as configured, seed 1000001", "weights of step 1,600"):
        assert words in said
    assert launch_module.main(["eval", str(run), "--greedy", "--json", str(result)]) == 0
    assert json.loads(result.read_text())["greedy"] and "6 games, greedy" in capsys.readouterr().out


ENDLESS = ["--env.id", "tests.endless_env:Endless-v0", "--policy.encoder", "none"]
EVALUATION_STARTS = "the evaluation at step 400 is given up after"


def test_an_evaluation_that_never_ends_heeds_the_time_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _train(tmp_path / "run", *ENDLESS, *EVERY, "--time-limit-s", "2")
    assert EVALUATION_STARTS in capsys.readouterr().out
    assert rows[-1]["global_step"] == 400 and not any("eval/episodic_return" in row for row in rows)
    assert load_latest(tmp_path / "run" / "checkpoints").step == 400


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_evaluation_that_never_ends_heeds_signals(
    number: signal.Signals, tmp_path: Path, launch: Launch
) -> None:
    run = tmp_path / "run"
    arguments = ["--runtime", "inline", "--num-actors", "1", "--run-dir", str(run), *QUIET, *ENDLESS, *EVERY]
    process = launch.start("train", "memory_rtrl", "--total-steps", "1600", *arguments)
    wait_until(lambda: rows_logged(run) >= 4)  # the evaluation begins after the fifth update
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    step = load_latest(run / "checkpoints").step
    assert 320 <= step <= 400 and (step < 400 or EVALUATION_STARTS in output)


def test_a_cut_game_beside_training_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = _train(tmp_path / "run", *ENDLESS, *EVERY, "--eval.max-episode-steps", "40")
    assert "6 games were cut off after 40 steps" in capsys.readouterr().out
    assert [row["eval/games_cut"] for row in rows if "eval/episodes" in row] == [6.0] * 4


def test_fewer_games_than_levels_are_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, monkeypatch)
    run = tmp_path / "run"
    options = ["--env.dmlab.dataset-path", "dummy", "--eval.interval-steps", "1000", *QUIET]
    assert launch_module.main(["train", "dmlab30_lstm", "--run-dir", str(run), *options]) == 2
    assert "eval.episodes = 20: needs at least 30, the number of levels" in capsys.readouterr().err
    assert not run.exists()


def test_a_failing_evaluation_is_told_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fault = tmp_path / "fault"
    monkeypatch.setenv(FAULT_VARIABLE, str(fault))
    config = preset("memory_rtrl")
    evaluator = InlineEvaluator(config, LocalPublisher().source)
    assert evaluator.request(7, lambda: False) and evaluator.finished() is None and evaluator.errors == 1
    assert "evaluation at step 7 failed: RuntimeError('no weights were published" in capfd.readouterr().out
    fault.write_text("reset 0 0")
    run = tmp_path / "run"
    rows = _train(run, *FAULTY, "--eval.interval-steps", "1600", "--eval.episodes", "2")
    (row,) = [row for row in rows if "eval/episodic_return" in row]
    assert (row["eval/episodic_return"], row["faults/eval_errors"]) == (10.0, 0)


@pytest.mark.ray
def test_through_ray_a_failed_evaluation_is_followed_by_one_that_succeeds(
    tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only fault is an `abort` in the evaluator: its slots take more steps than a training slot does."""
    fault, run = tmp_path / "fault", tmp_path / "run"
    fault.write_text("abort 160 1")
    monkeypatch.setenv(FAULT_VARIABLE, str(fault))
    arguments = ["train", "memory_rtrl", *FAULTY, *QUIET, "--total-steps", "1600", "--run-dir", str(run)]
    evaluation = ["--eval.interval-steps", "400", "--eval.episodes", "400"]
    code, output = launch(*arguments, "--runtime", "ray", "--ray.object-store-mib", "100", *evaluation)
    assert code == 0, output
    assert "the evaluation at step 400 failed" in output
    rows = read_metrics(run)
    assert max(row.get("faults/actor_restarts", 0) for row in rows) == 0
    assert max(row.get("faults/eval_errors", 0) for row in rows) == 1
    last = [row for row in rows if "eval/episodes" in row][-1]
    assert (last["eval/global_step"], last["eval/episodes"]) == (1600, 400)


def test_eval_of_the_config_is_checked() -> None:
    with pytest.raises(ValueError, match=r"eval.episodes = 0"):
        EvalConfig(episodes=0)
