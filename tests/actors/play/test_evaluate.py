"""Evaluation: quotas, threaded state, raw returns, determinism; and inference by version."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from actors.collect import Collector
from actors.inference import LocalInference
from actors.play.evaluate import Playing, evaluate
from actors.play.evaluation import Evaluation
from actors.play.games import Games
from actors.policy import Policy
from actors.rollout import EpisodeStats
from actors.weights import WeightSnapshot
from configs.presets import preset
from configs.schema import Config, EnvConfig, EvalConfig
from envs.make import env_spec, make_vec
from envs.spec import VecEnv
from envs.suites.streams import distinct_seeds
from tests.actors.snapshots import snapshot_of


def _config(env_id: str, slots: int = 4) -> Config:
    base = preset("cartpole_rtrl")
    return dataclasses.replace(
        base,
        env=dataclasses.replace(base.env, id=env_id, num_envs=slots),
        num_streams=2 * slots,
        batch_size=2 * slots,
    )


def _playing(config: Config, episodes: int, greedy: bool = True, **terms: Any) -> Config:
    options = EvalConfig(episodes=episodes, greedy=greedy, **terms)
    return dataclasses.replace(config, eval=options)


def _policy(config: Config) -> Policy:
    torch.manual_seed(0)
    return Policy(env_spec(config.env), config.policy)


def test_every_slot_plays_its_quota_however_long_its_games_are() -> None:
    config = _config("counting/3")
    result = evaluate(_playing(config, 40), _policy(config), seed=1)
    assert Counter(e.slot for e in result.episodes) == {slot: 3 if slot < 8 else 2 for slot in range(16)}
    assert {e.slot: e.episodic_length for e in result.episodes} == {slot: 3 + slot for slot in range(16)}
    assert result.mean == pytest.approx(np.mean(result.returns))
    assert result.std == pytest.approx(np.std(result.returns, ddof=1))


@pytest.mark.parametrize("episodes", [5, 16, 23])
def test_a_slot_that_has_played_its_quota_is_left_out(episodes: int) -> None:
    """CartPole, whose games differ in length: every step taken belongs to a game that counts."""
    config = _playing(_config("CartPole-v1"), episodes, greedy=False)
    playing = Playing(config, _policy(config), seed=1)
    while playing.step():
        pass
    result = playing.result()
    lengths = [episode.episodic_length for episode in result.episodes]
    starts = episodes - min(episodes, 16)  # of a slot's second game: a step that is no decision
    assert len(lengths) == episodes and playing.steps == sum(lengths) + starts
    assert len(set(lengths)) > 3 and max(lengths) > 1.5 * min(lengths)


def test_the_games_of_a_slot_are_the_same_however_many_are_played() -> None:
    config = _config("CartPole-v1")
    few, many = (evaluate(_playing(config, n), _policy(config), seed=1).episodes for n in (3, 12))
    assert sorted(few, key=lambda e: e.slot) == [e for e in sorted(many, key=lambda e: e.slot) if e.slot < 3]


ENDLESS = "tests.endless_env:Endless-v0"


def test_a_game_that_never_ends_is_cut_off_and_told() -> None:
    config = _playing(_config(ENDLESS), 20, max_episode_steps=30)
    result = evaluate(config, _policy(config), seed=1)
    assert [episode.episodic_length for episode in result.episodes] == [30] * 16
    assert (result.cut, result.unplayed, result.idle) == (16, 4, 0)
    assert "16 games were cut off after 30 steps" in result.report()
    assert "and 4 more did not begin" in result.report()
    assert result.to_json()["games_cut"] == 16


def test_games_in_which_nothing_happens_for_long_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.play.games.IDLE_STEPS", 20)
    config = _playing(_config(ENDLESS), 3, max_episode_steps=50)
    result = evaluate(config, _policy(config), seed=1)  # a reward at every 25th step
    assert result.idle == 3 and "without any reward" in result.report()
    monkeypatch.setattr("actors.play.games.IDLE_STEPS", 26)
    assert evaluate(config, _policy(config), seed=1).idle == 0


def test_the_policy_sees_what_it_sees_in_training() -> None:
    """Observation, reward, reset and previous action at every step, as a Collector gives them."""
    config = _config("counting/3/2", slots=16)

    class Noting(LocalInference):
        def __init__(self) -> None:
            super().__init__(_policy(config), None, seed=1)
            self.seen: list[list[np.ndarray]] = []

        def submit(self, group: int, observation: Any, reward: Any, reset: Any) -> None:
            inputs = (observation, reward, reset, self.previous_action(group))
            self.seen.append([np.array(x) for x in inputs])
            super().submit(group, observation, reward, reset)

    ours, theirs = Noting(), Noting()
    games = Games([make_vec(config.env)], ours, [3] * 16, seed=1, max_steps=1000)
    while not games.done:
        games.step()
    collector = Collector(
        [make_vec(config.env)],
        theirs,
        unroll_length=len(ours.seen),
        actor_id=0,
        incarnation=0,
        env_seed=int(distinct_seeds(1, 1)[0]),
    )
    rollout = collector.collect()
    for mine, other in zip(ours.seen, theirs.seen, strict=True):
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_array_equal(a, b)
    for slot in range(16):
        first = [episode for episode in rollout.episodes if episode.slot == slot][:3]
        assert [episode for episode in games.played if episode.slot == slot] == first
    assert any(inputs[2].any() for inputs in ours.seen[1:]), "resets were among them"


def test_a_level_s_return_is_the_mean_of_its_games() -> None:
    games = [("ALE/Pong-v5", -20.7), ("ALE/Boxing-v5", 0.1), ("ALE/Pong-v5", 14.6), ("ALE/Boxing-v5", 12.1)]
    episodes = [
        EpisodeStats(episodic_return=value, episodic_length=9, level=level, slot=0, ended_by="termination")
        for level, value in games
    ]
    terms: dict[str, Any] = {"greedy": True, "seed": 1, "levels": "as configured", "max_episode_steps": 10}
    result = Evaluation(episodes=episodes, protocol={"env_id": "x"}, score_suite="atari57", **terms)
    assert result.level_returns == pytest.approx({"ALE/Boxing-v5": 6.1, "ALE/Pong-v5": -3.05})
    assert result.scores == pytest.approx({"boxing": 50.0, "pong": 50.0}) and result.aggregates == {}
    assert "atari57 boxing: 50.0 %" in result.report()
    assert result.standard_error == pytest.approx(np.std([value for _, value in games], ddof=1) / 2)


def test_no_game_of_a_memory_task_begins_without_its_cue() -> None:
    config = _config("memory/tmaze")
    assert config.env.memory.random_phase
    result = evaluate(_playing(config, 12, False), _policy(config), seed=1)
    assert {e.episodic_length for e in result.episodes} == {config.env.memory.length_min + 2}


@pytest.mark.parametrize("greedy", [True, False])
def test_same_seed_same_games(greedy: bool) -> None:
    config = _config("cartpole/masked")
    runs = [evaluate(_playing(config, 6, greedy), _policy(config), seed=s) for s in (3, 3, 4)]
    assert runs[0] == runs[1] and runs[0].episodes != runs[2].episodes
    assert max(runs[0].returns) > 1.0, "returns are raw, not clipped to 1"


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
    source.snapshot = snapshot_of(3, arrays)
    inference.refresh()
    assert all((t == 0.25).all() for t in policy.state_dict().values())
    source.snapshot = snapshot_of(2, {name: array + 1 for name, array in arrays.items()})
    inference.refresh()
    assert all((t == 0.25).all() for t in policy.state_dict().values())
    source.snapshot = snapshot_of(4, {"other": np.zeros(1)})
    with pytest.raises(ValueError, match="another network"):
        inference.refresh()


def test_sampling_follows_the_logits_and_greedy_takes_the_largest() -> None:
    config = _config("cartpole/masked")
    policy = _policy(config)
    with torch.no_grad():
        policy.policy_head.weight.zero_()
        policy.policy_head.bias.copy_(torch.tensor([0.0, float(np.log(3.0))]))
    n = 4000

    def actions(inference: LocalInference) -> np.ndarray:
        inference.submit(0, np.zeros((n, 2), np.float32), np.zeros(n, np.float32), np.ones(n, np.bool_))
        return inference.take(0).action

    sampling, again, greedy = (
        LocalInference(policy, None, seed=0, greedy=greedy) for greedy in (False, False, True)
    )
    for inference in (sampling, again, greedy):
        assert inference.open(n) == 0
    sampled = actions(sampling)
    assert abs(sampled.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / n)
    assert (actions(greedy) == 1).all()
    np.testing.assert_array_equal(actions(again), sampled)
    state = again.state_dict(0)
    following = actions(again)
    again.load_state_dict(0, state)
    np.testing.assert_array_equal(actions(again), following)


def test_every_level_of_a_set_is_played_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of 30 levels and 16 slots at most: two rounds, of the streams 0 to 14 and 15 to 29."""
    made: list[tuple[int, int]] = []

    def make(config: EnvConfig, *, first_stream: int) -> VecEnv:
        made.append((first_stream, config.num_envs))
        return make_vec(config, first_stream=first_stream)

    monkeypatch.setattr("actors.play.evaluate.num_levels", lambda config: 30)
    monkeypatch.setattr("actors.play.evaluate.make_vec", make)
    config = _config("counting/3")
    result = evaluate(_playing(config, 60), _policy(config), seed=1)
    assert made == [(0, 15), (15, 15)]
    assert Counter(e.slot for e in result.episodes) == dict.fromkeys(range(15), 4)
    with pytest.raises(ValueError, match="episodes = 29: needs at least 30"):
        evaluate(_playing(config, 29), _policy(config), seed=1)
