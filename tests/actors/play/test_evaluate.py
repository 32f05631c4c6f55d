"""Evaluation: quotas, threaded state, raw returns, determinism; and inference by version."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from actors.inference import LocalInference
from actors.play.evaluate import evaluate
from actors.policy import Policy
from actors.weights import WeightSnapshot
from configs.presets import preset
from configs.schema import Config, EnvConfig
from envs.make import env_spec, make_vec
from envs.spec import VecEnv


def _config(env_id: str, slots: int = 4) -> Config:
    base = preset("cartpole_rtrl")
    return dataclasses.replace(
        base, env=dataclasses.replace(base.env, id=env_id, num_envs=slots), batch_size=2 * slots
    )


def _policy(config: Config) -> Policy:
    torch.manual_seed(0)
    return Policy(env_spec(config.env), config.policy)


def test_every_slot_plays_its_quota_however_long_its_games_are() -> None:
    config = _config("counting/3")
    result = evaluate(config, _policy(config), episodes=40, greedy=True, seed=1)
    assert Counter(e.slot for e in result.episodes) == {slot: 3 if slot < 8 else 2 for slot in range(16)}
    assert {e.slot: e.episodic_length for e in result.episodes} == {slot: 3 + slot for slot in range(16)}
    assert result.mean == pytest.approx(np.mean(result.returns))
    assert result.std == pytest.approx(np.std(result.returns, ddof=1))


def test_no_game_of_a_memory_task_begins_without_its_cue() -> None:
    config = _config("memory/tmaze")
    assert config.env.memory.random_phase
    result = evaluate(config, _policy(config), episodes=12, greedy=False, seed=1)
    assert {e.episodic_length for e in result.episodes} == {config.env.memory.length_min + 2}


@pytest.mark.parametrize("greedy", [True, False])
def test_same_seed_same_games(greedy: bool) -> None:
    config = _config("cartpole/masked")
    runs = [evaluate(config, _policy(config), episodes=6, greedy=greedy, seed=s) for s in (3, 3, 4)]
    assert runs[0] == runs[1] and runs[0].episodes != runs[2].episodes
    assert max(runs[0].returns) > 1.0, "returns are raw, not clipped to 1"


def test_number_of_games_is_checked() -> None:
    config = _config("counting/3")
    with pytest.raises(ValueError, match="episodes = 0"):
        evaluate(config, _policy(config), episodes=0, greedy=True, seed=1)


class _Source:
    def __init__(self) -> None:
        self.snapshot: WeightSnapshot | None = None

    def fetch(self, newer_than: int) -> WeightSnapshot | None:
        newer = self.snapshot is not None and self.snapshot.version > newer_than
        return self.snapshot if newer else None


def test_inference_takes_newer_weights_only_and_refuses_those_of_another_network() -> None:
    config = _config("cartpole/masked")
    policy, source = _policy(config), _Source()
    inference = LocalInference(policy, source, seed=0)
    with pytest.raises(RuntimeError, match="no weights were published"):
        inference.refresh()
    arrays = {name: np.full_like(t.numpy(), 0.25) for name, t in policy.state_dict().items()}
    for array in arrays.values():
        array.setflags(write=False)  # as Ray hands them out
    source.snapshot = WeightSnapshot(3, arrays)
    inference.refresh()
    assert all((t == 0.25).all() for t in policy.state_dict().values())
    source.snapshot = WeightSnapshot(2, {name: array + 1 for name, array in arrays.items()})
    inference.refresh()
    assert all((t == 0.25).all() for t in policy.state_dict().values())
    source.snapshot = WeightSnapshot(4, {"other": np.zeros(1)})
    with pytest.raises(ValueError, match="another network"):
        inference.refresh()


def test_sampling_follows_the_logits_and_greedy_takes_the_largest() -> None:
    config = _config("cartpole/masked")
    policy = _policy(config)
    with torch.no_grad():
        policy.policy_head.weight.zero_()
        policy.policy_head.bias.copy_(torch.tensor([0.0, float(np.log(3.0))]))
    n = 4000
    inputs = (
        np.zeros((n, 2), np.float32),
        np.zeros(n, np.float32),
        np.ones(n, np.bool_),
        LocalInference(policy, None, seed=0).initial_state(n),
        np.zeros(n, np.int64),
    )
    sampled = LocalInference(policy, None, seed=0).step(*inputs).action
    assert abs(sampled.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / n)
    assert (LocalInference(policy, None, seed=0, greedy=True).step(*inputs).action == 1).all()
    again = LocalInference(policy, None, seed=0)
    np.testing.assert_array_equal(again.step(*inputs).action, sampled)
    state = again.randomness.copy()
    following = again.step(*inputs).action
    again.randomness = state
    np.testing.assert_array_equal(again.step(*inputs).action, following)


def test_every_level_of_a_set_is_played_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of 30 levels and 16 slots at most: two rounds, whose actors know their numbers."""
    made: list[tuple[int, int]] = []

    def make(config: EnvConfig, *, actor_id: int) -> VecEnv:
        made.append((actor_id, config.num_envs))
        return make_vec(config, actor_id=actor_id)

    monkeypatch.setattr("actors.play.evaluate.num_levels", lambda config: 30)
    monkeypatch.setattr("actors.play.evaluate.make_vec", make)
    config = _config("counting/3")
    result = evaluate(config, _policy(config), episodes=60, greedy=True, seed=1)
    assert made == [(0, 15), (1, 15)]
    assert Counter(e.slot for e in result.episodes) == dict.fromkeys(range(15), 4)
    with pytest.raises(ValueError, match="episodes = 29: needs at least 30"):
        evaluate(config, _policy(config), episodes=29, greedy=True, seed=1)
