"""`launch.py eval` on Atari: the score beside the return, and the protocol that both belong to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envs.scores import normalise
from experiments.suite_scores import main as suite_scores
from tests.integration.cli import Launch

PROTOCOL = {
    "env_id": "ALE/Breakout-v5",
    "suite": "atari",
    "max_episode_frames": 400,
    "sticky_actions": 0.25,
    "full_action_space": True,
    "noop_max": 30,
    "life_loss_ends_episode": True,
    "fire_reset": True,
    "atari.frame_stack": 4,
    "atari.frame_skip": 4,
    "atari.size": 84,
    "atari.colour": False,
    "num_actions": 18,
    "frames_per_step": 4,
}


def test_eval_states_the_protocol_and_the_normalised_score(
    launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, result = str(tmp_path / "run"), tmp_path / "result.json"
    train = ["--runtime", "inline", "--num-actors", "1", "--total-steps", "320", "--wandb.mode", "disabled"]
    env = ["--env.max-episode-frames", "400", "--env.sticky-actions", "0.25", "--env.full-action-space"]
    code, printed = launch("train", "atari_breakout_rtrl_cpu", "--run-dir", run_dir, *train, *env)
    assert code == 0, printed
    code, printed = launch("eval", run_dir, "--episodes", "2", "--sampled", "--json", str(result))
    assert code == 0, printed
    written = json.loads(result.read_text())
    assert written["protocol"] == PROTOCOL
    assert written["training_seed"] == 1 and written["score_suite"] == "atari57"
    assert written["scores"] == normalise("atari57", {"breakout": written["episodic_return_mean"]})
    assert f"atari57 breakout: {written['scores']['breakout']:.1f} %" in printed
    for words in (
        "2 games",
        "suite atari",
        "sticky_actions 0.25",
        "full_action_space True",
        "num_actions 18",
    ):
        assert words in printed
    assert "life_loss_ends_episode True" in printed and "max_episode_frames 400" in printed
    assert suite_scores([str(result), "--partial"]) == 0
    assert "atari57, 1 of 57 levels" in capsys.readouterr().out
