"""Evaluation on a set of levels: every one of them is played, by engines in processes of their own."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from actors.play.evaluate import evaluate
from actors.policy import Policy
from configs.presets import preset
from configs.schema import EvalConfig, PolicyConfig
from envs.make import env_spec, held_out
from envs.suites.dmlab.levels import TASK_SETS
from tests.envs.suites.dmlab.fake_deepmind_lab import install


def test_thirty_games_of_dmlab30_are_one_of_each_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = install(tmp_path, monkeypatch)
    config = preset("dmlab30_lstm")
    dmlab = dataclasses.replace(config.env.dmlab, width=16, height=8, dataset_path="dummy")
    env = held_out(dataclasses.replace(config.env, dmlab=dmlab))
    assert env.id == "dmlab/dmlab30_test"
    config = dataclasses.replace(
        config,
        env=env,
        policy=PolicyConfig(encoder="deep", features=4, core="none"),
        eval=EvalConfig(episodes=30),
    )
    torch.manual_seed(0)
    policy = Policy(env_spec(env), config.policy)
    log.unlink()  # of the engine that told the shapes
    result = evaluate(config, policy, seed=1)
    levels = [f"dmlab/{level}" for level in TASK_SETS["dmlab30_test"]]
    assert Counter(episode.level for episode in result.episodes) == dict.fromkeys(levels, 1)
    engines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len({engine["level"] for engine in engines}) == len(engines) == 30
    assert all(engine["observations"] == ["RGB_INTERLEAVED", "INSTR"] for engine in engines)
    assert len(result.scores) == len(result.level_returns) == 30, "every level has a score"
    capped = sum(min(score, 100.0) for score in result.scores.values()) / 30
    assert result.aggregates["mean_capped"] == pytest.approx(capped)
    assert f"dmlab30 mean_capped: {capped:.1f} %" in result.report()
    assert f"dmlab/{TASK_SETS['dmlab30_test'][0]}: return" in result.report()
