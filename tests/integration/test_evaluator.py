"""Evaluations beside training: they change nothing, they are logged, and their failures end nothing."""

from __future__ import annotations

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
from tests.faulty_env import FAULT_VARIABLE
from tests.integration.cli import Launch, read_metrics

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
        assert evaluator.request(version)
        finished = evaluator.finished()
        assert finished is not None and finished.global_step == version
        lengths.append([episode.episodic_return for episode in finished.evaluation.episodes])
        assert evaluator.finished() is None, "once"
    assert lengths[0] == [-r for r in lengths[1]], "the same games, and the other answer to each cue"


def test_a_failing_evaluation_is_told_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fault = tmp_path / "fault"
    monkeypatch.setenv(FAULT_VARIABLE, str(fault))
    config = preset("memory_rtrl")
    evaluator = InlineEvaluator(config, LocalPublisher().source)
    assert evaluator.request(7) and evaluator.finished() is None and evaluator.errors == 1
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
    fault.write_text("abort 300 1")
    monkeypatch.setenv(FAULT_VARIABLE, str(fault))
    arguments = ["train", "memory_rtrl", *FAULTY, *QUIET, "--total-steps", "1600", "--run-dir", str(run)]
    evaluation = ["--eval.interval-steps", "400", "--eval.episodes", "1000"]
    code, output = launch(*arguments, "--runtime", "ray", "--ray.object-store-mib", "100", *evaluation)
    assert code == 0, output
    assert "the evaluation at step 400 failed" in output
    rows = read_metrics(run)
    assert max(row.get("faults/actor_restarts", 0) for row in rows) == 0
    assert max(row.get("faults/eval_errors", 0) for row in rows) == 1
    last = [row for row in rows if "eval/episodes" in row][-1]
    assert (last["eval/global_step"], last["eval/episodes"]) == (1600, 1000)


def test_eval_of_the_config_is_checked() -> None:
    with pytest.raises(ValueError, match=r"eval.episodes = 0"):
        EvalConfig(episodes=0)
