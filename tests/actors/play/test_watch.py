"""What is watched is what was played: games replayed by their actions, values by the learner's own pass."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from actors.play.evaluate import for_whole_games
from actors.play.watch import Moment, watch
from actors.policy import Policy
from configs.presets import preset
from configs.schema import Config
from envs.make import env_spec, make_drawn, make_vec
from envs.spec import Drawable
from envs.suites.counting import reward_of


def _config(env_id: str) -> Config:
    base = preset("cartpole_rtrl")
    env = for_whole_games(dataclasses.replace(base.env, id=env_id), 1)
    return dataclasses.replace(base, env=env, batch_size=1, num_streams=1)


def _policy(config: Config) -> Policy:
    torch.manual_seed(0)
    return Policy(env_spec(config.env), config.policy)


def _watch(env_id: str, episodes: int = 1, max_steps: int = 10_000, seed: int = 5) -> list[Moment]:
    config = _config(env_id)
    moments = watch(
        make_vec(config.env),
        _policy(config),
        episodes=episodes,
        max_steps=max_steps,
        greedy=False,
        seed=seed,
    )
    return list(moments)


@pytest.mark.parametrize("env_id", ["cartpole/masked", "memory/tmaze"])
def test_the_same_actions_give_the_same_games(env_id: str) -> None:
    env = make_vec(_config(env_id).env)
    games = [list(game) for _, game in itertools.groupby(_watch(env_id, episodes=3), lambda m: m.game)]
    assert len(games) == 3
    observation = env.reset(seed=5)
    for game in games:
        episodic_return = 0.0
        assert [moment.step for moment in game] == list(range(len(game)))
        for moment in game:
            np.testing.assert_array_equal(moment.observation, observation[0])
            assert moment.episodic_return == pytest.approx(episodic_return)
            last = moment is game[-1]
            assert (moment.action is None, moment.value is None, moment.ended is not None) == (last,) * 3
            step = env.step(np.array([moment.action or 0], np.int64))
            if not last:
                episodic_return += float(step.reward[0])
                ended = "termination" if step.terminated[0] else "truncation"
                following = game[moment.step + 1]
                assert following.ended == (ended if step.game_over[0] else None)
            observation = step.observation


def test_the_value_is_of_the_observation_that_it_is_shown_with() -> None:
    """The learner's unroll over the watched game gives the same numbers."""
    config = _config("cartpole/masked")
    game = _watch("cartpole/masked")
    policy = _policy(config)
    T = len(game) - 1
    actions = torch.tensor([0, *(m.action for m in game[:-1])])
    returns = torch.tensor([m.episodic_return for m in game])
    with torch.no_grad():
        unrolled = policy.unroll(
            torch.stack([torch.from_numpy(m.observation) for m in game]).unsqueeze(1),
            torch.diff(returns, prepend=torch.zeros(1)).unsqueeze(1),
            (torch.arange(T + 1) == 0).unsqueeze(1),
            policy.initial_state(1),
            actions.unsqueeze(1),
        )
    values = torch.tensor([m.value for m in game[:-1]])
    assert T > 5 and values.unique().numel() > 5
    torch.testing.assert_close(unrolled.baseline.squeeze(1), values, rtol=1e-5, atol=1e-6)


def test_a_lost_life_is_no_end_of_the_game() -> None:
    game = _watch("counting/3/3")
    assert [m.observation[1] for m in game] == [0] * 4 + [1] * 4 + [2] * 4, "three lives of four observations"
    assert [m.ended for m in game[:-1]] == [None] * 11 and game[-1].ended == "termination"
    # The step from one life to the next is an ordinary one of the game.
    earned = [float(reward_of(np.array(m.action), np.array(m.observation[0]))) for m in game[:-1]]
    assert game[-1].episodic_return == sum(earned)


def test_both_ways_to_end_are_told() -> None:
    assert [m.ended for m in _watch("counting/3", episodes=2) if m.ended] == ["termination", "truncation"]


def test_the_steps_at_most_end_a_game_early() -> None:
    cut = _watch("counting/3", episodes=3, max_steps=5)
    assert [(m.game, m.step, m.ended is None) for m in cut] == [
        *((1, step, step < 3) for step in range(4)),
        *((2, step, True) for step in range(2)),
    ]
    whole = _watch("counting/3", episodes=3, max_steps=3)
    assert [m.ended for m in whole] == [None, None, None, "termination"]


@pytest.mark.parametrize("env_id", ["cartpole/masked", "counting/9"])
def test_same_seed_same_games(env_id: str) -> None:
    """Also where chance is in the sampled actions alone, as in counting."""
    games = [[(m.action, m.value) for m in _watch(env_id, seed=seed)] for seed in (5, 5, 6)]
    assert games[0] == games[1] != games[2]


def test_a_picture_shows_the_observation_that_it_comes_with() -> None:
    config = _config("CartPole-v1")
    watched, again = make_drawn(config.env), make_drawn(config.env)
    assert isinstance(again, Drawable)
    observation = again.reset(seed=1)
    for moment in watch(watched, _policy(config), episodes=1, max_steps=8, greedy=False, seed=1):
        np.testing.assert_array_equal(moment.observation, observation[0])
        np.testing.assert_array_equal(moment.picture, again.draw())
        observation = again.step(np.array([moment.action])).observation
    assert moment.step == 7 and (moment.picture != again.draw()).any()
    again.close()
