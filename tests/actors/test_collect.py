"""State hand-over, on an env and a cell that count: nothing is lost, repeated or mixed up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.collect import Collector
from actors.inference import Decision
from actors.rollout import EpisodeStats, Rollout
from configs.schema import EnvConfig
from envs.make import make_vec
from envs.spec import EnvFaultError, VecEnv, VecStep
from envs.suites.counting import reward_of
from tests.actors.counting_cell import NUM_ACTIONS, CountingCell

E = 3
FLAGS = ("terminated", "truncated", "reset")


def _collector(env_id: str, T: int, cell: CountingCell | None = None, groups: int = 1) -> Collector:
    env = EnvConfig(id=env_id, num_envs=E)
    return Collector(
        [make_vec(env) for _ in range(groups)],
        cell or CountingCell(),
        unroll_length=T,
        actor_id=4,
        incarnation=11,
        env_seed=1,
    )


def _joined(rollouts: Sequence[Rollout], name: str) -> NDArray[Any]:
    """The whole history of a field: each rollout's own steps, and the last rollout's last observation."""
    arrays = [getattr(rollout, name) for rollout in rollouts]
    if arrays[0].shape[0] == rollouts[0].unroll_length:
        return np.concatenate(arrays)
    return np.concatenate([*(array[:-1] for array in arrays), arrays[-1][-1:]])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("T", [1, 2, 7, 50])
def test_rollouts_join_without_a_seam(T: int, groups: int) -> None:
    collector = _collector("counting/7", T, groups=groups)
    rollouts = [collector.collect() for _ in range(max(3, 60 // T))]
    assert [rollout.sequence_number for rollout in rollouts] == list(range(len(rollouts)))
    for before, after in pairwise(rollouts):
        for name in ("observation", "reward", *FLAGS):
            np.testing.assert_array_equal(getattr(before, name)[-1], getattr(after, name)[0])
        np.testing.assert_array_equal(before.action[-1], after.previous_action)
        # Before x_0 the cell has counted every observation of the episode but x_0 itself.
        counted = np.where(after.reset[0], after.initial_state[0][:, 0], after.observation[0, :, 0])
        np.testing.assert_array_equal(after.initial_state[0][:, 0], counted)

    observation, action = _joined(rollouts, "observation"), _joined(rollouts, "action")
    reward, reset = _joined(rollouts, "reward"), _joined(rollouts, "reset")
    ended = _joined(rollouts, "terminated") | _joined(rollouts, "truncated")
    np.testing.assert_array_equal(reset[1:], ended[:-1])
    assert reset[0].all() and (observation[reset][:, 0] == 0).all()
    expected = np.where(ended[:-1], 0.0, reward_of(action, observation[:-1, :, 0].astype(np.int64)))
    np.testing.assert_array_equal(reward[1:], expected)
    np.testing.assert_array_equal(
        _joined(rollouts, "behaviour_logits"), np.repeat(observation[:-1, :, :1] + 1, NUM_ACTIONS, axis=-1)
    )


@pytest.mark.parametrize("T", [1, 5, 50])
def test_returns_do_not_depend_on_where_rollouts_are_cut(T: int) -> None:
    def games(T: int) -> list[EpisodeStats]:
        collector = _collector("counting/7", T)
        episodes = [e for _ in range(100 // T) for e in collector.collect().episodes]
        return sorted(episodes, key=lambda e: e.slot)

    assert games(T) == games(100)
    counts = [0] * E
    for game in games(T):
        slot, number = game.slot, counts[game.slot]
        index = np.arange(7 + slot)
        assert game == EpisodeStats(
            episodic_return=float(reward_of((index + slot) % NUM_ACTIONS, index).sum()),
            episodic_length=7 + slot,
            level=f"counting/7#{slot}",
            slot=slot,
            ended_by="truncation" if number % 2 else "termination",
        )
        counts[slot] += 1
    assert min(counts) >= 9


def test_a_game_of_several_lives_is_one_episode_in_the_books_and_several_for_the_learner() -> None:
    rollout = _collector("counting/7/3", 60).collect()
    lives = rollout.terminated[:, 0].sum()
    games = [e for e in rollout.episodes if e.slot == 0]
    assert lives >= 6 and len(games) == lives // 3
    until_first_game_over = np.flatnonzero(rollout.terminated[:, 0])[2]
    assert games[0].episodic_return == rollout.reward[: until_first_game_over + 1, 0].sum()
    assert games[0].episodic_length == until_first_game_over
    np.testing.assert_array_equal(rollout.reset[1:], rollout.terminated[:-1])


def test_weights_are_refreshed_between_rollouts_and_their_versions_recorded() -> None:
    cell = CountingCell(version=5)
    collector = _collector("counting/7", 4, cell)
    rollout = collector.collect()
    assert (rollout.policy_version_min, rollout.policy_version_max, cell.refreshed) == (5, 5, 1)
    cell.version = 6
    assert collector.collect().policy_version_min == 6


class _Learning(CountingCell):
    """Takes newer weights at every step, as an inference that many actors share may."""

    def take(self, group: int) -> Decision:
        decision = super().take(group)
        self.version += 1
        return decision


def test_a_rollout_names_the_oldest_and_the_newest_weights_that_acted_in_it() -> None:
    collector = _collector("counting/7", 4, _Learning(version=5))
    spans = [(r.policy_version_min, r.policy_version_max) for r in (collector.collect(), collector.collect())]
    assert spans == [(5, 8), (9, 12)]


@pytest.mark.parametrize("groups", [1, 2])
def test_a_resumed_collector_goes_on_as_if_nothing_had_happened(groups: int) -> None:
    collector = _collector("counting/7", 5, groups=groups)
    collector.collect()
    state = collector.state_dict()
    resumed = _collector("counting/7", 5, groups=groups)
    resumed.load_state_dict(state)
    for _ in range(4):
        expected, found = collector.collect(), resumed.collect()
        for name in Rollout.__dataclass_fields__.keys() - {"finished_at"}:
            np.testing.assert_equal(getattr(found, name), getattr(expected, name))


class _Broken:
    """A real env whose step is spoiled on its way out."""

    def __init__(self, env: VecEnv, spoil: str) -> None:
        self.spec, self.num_envs = env.spec, env.num_envs
        self._env, self._spoil = env, spoil

    def reset(self, seed: int) -> NDArray[np.generic]:
        return self._env.reset(seed)

    def step(self, actions: NDArray[np.int64]) -> VecStep:
        step = self._env.step(actions)
        if self._spoil == "shape":
            return VecStep(step.observation[:, :2], *_rest(step))
        value = np.full(self.num_envs, np.nan, np.float32)
        if self._spoil == "reward":
            return VecStep(step.observation, value, step.terminated, step.truncated, step.game_over)
        return VecStep(step.observation * value[:, None], *_rest(step))

    def close(self) -> None:
        self._env.close()


def _rest(
    step: VecStep,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    return step.reward, step.terminated, step.truncated, step.game_over


class _FixedCell(CountingCell):
    def submit(self, group, observation, reward, reset):
        super().submit(group, np.zeros((E, 3)), reward, np.ones(E, np.bool_))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("reward", "reward at step 1 is nan in slot 0, level counting/7#0"),
        ("observation", r"observation\[0\] at step 1 is nan in slot 0"),
        ("shape", r"observation at step 1 is float32\[3, 2\], expected float32\[3, 3\]"),
    ],
)
def test_nothing_of_a_rollout_with_bad_numbers_leaves(spoil: str, words: str) -> None:
    env = _Broken(make_vec(EnvConfig(id="counting/7", num_envs=E)), spoil)
    collector = Collector([env], _FixedCell(), unroll_length=3, actor_id=4, incarnation=1, env_seed=1)
    with pytest.raises(EnvFaultError, match=f"counting/7: {words}"):
        collector.collect()


def test_games_of_the_second_group_are_those_of_the_actors_later_slots() -> None:
    games = _collector("counting/7", 60, groups=2).collect().episodes
    for slot in range(E):
        first, second = ([e for e in games if e.slot == number] for number in (slot, E + slot))
        assert first and second == [dataclasses.replace(e, slot=E + slot) for e in first]
