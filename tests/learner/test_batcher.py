"""A batch holds at most one rollout of a stream, oldest first, and says what it is made of."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from actors.rollout import EpisodeStats, Rollout
from learner.batcher import Batcher
from learner.records.state import join_state, split_state
from tests.learner.batches import config

T, E, A = 6, 3, 4


def rollout(actor_id: int, number: int = 0, *, t: int = T, version: int = 0, **changes: Any) -> Rollout:
    """Content that tells actor, rollout, step and slot apart."""
    base = 1000.0 * actor_id + 100.0 * number
    cell = base + 10.0 * np.arange(t + 1)[:, None] + np.arange(E)[None, :]
    fields: dict[str, Any] = {
        "observation": np.repeat(cell[..., None], 3, axis=-1).astype(np.float32),
        "reward": cell.astype(np.float32),
        "terminated": np.zeros((t + 1, E), np.bool_),
        "truncated": np.zeros((t + 1, E), np.bool_),
        "reset": np.zeros((t + 1, E), np.bool_),
        "action": cell[:t].astype(np.int64),
        "behaviour_logits": np.zeros((t, E, A), np.float32),
        "previous_action": np.full(E, -1 - actor_id),
        "initial_state": (np.full((E, 5), base, np.float32),),
        "actor_id": actor_id,
        "first_stream": E * actor_id,
        "incarnation": 7,
        "sequence_number": number,
        "policy_version_min": version,
        "policy_version_max": version,
    }
    return Rollout(**(fields | changes))


def _batcher(**changes: Any) -> Batcher:
    settings = {"num_streams": 3 * E, "batch_size": 2 * E} | changes
    return Batcher(config(**settings), torch.device("cpu"))


def test_columns_keep_their_order_and_nothing_is_mixed() -> None:
    batcher = _batcher()
    batcher.add(rollout(0), 0)
    assert batcher.next_batch() is None
    stats = EpisodeStats(episodic_return=1.0, episodic_length=2, level="x", slot=0, ended_by="truncation")
    batcher.add(rollout(2, episodes=[stats], version=3), 4)
    batch = batcher.next_batch()
    assert batch is not None and len(batcher) == 0
    assert batch.num_steps == T * 2 * E
    parts = [rollout(0), rollout(2)]
    for name in ("observation", "reward", "terminated", "truncated", "reset", "action", "behaviour_logits"):
        expected = np.concatenate([getattr(part, name) for part in parts], axis=1)
        np.testing.assert_array_equal(getattr(batch, name).numpy(), expected)
    np.testing.assert_array_equal(batch.previous_action[0].numpy(), [-1] * E + [-3] * E)
    np.testing.assert_array_equal(batch.previous_action[1:].numpy(), batch.action.numpy())
    np.testing.assert_array_equal(batch.initial_state[0][:, 0].numpy(), [0.0] * E + [2000.0] * E)
    assert [piece.streams for piece in batch.streams] == [range(3), range(6, 9)]
    assert batch.episodes == [stats]
    np.testing.assert_array_equal(batch.policy_version_min, [0] * E + [3] * E)


def test_second_rollout_of_a_stream_waits_for_the_next_batch() -> None:
    batcher = _batcher()
    for piece in (rollout(1, 0), rollout(1, 1), rollout(1, 2)):
        batcher.add(piece, 0)
    assert batcher.next_batch() is None
    batcher.add(rollout(0, 0), 0)
    batcher.add(rollout(2, 0), 0)
    taken = []
    while (batch := batcher.next_batch()) is not None:
        taken.append([(piece.first_stream, piece.sequence_number) for piece in batch.streams])
    assert taken == [[(3, 0), (0, 0)], [(3, 1), (6, 0)]]
    assert len(batcher) == 1


def test_a_rollout_is_cut_where_that_fills_a_batch_and_the_rest_is_the_next_ones_beginning() -> None:
    games = [
        EpisodeStats(
            episodic_return=float(slot), episodic_length=2, level="x", slot=slot, ended_by="truncation"
        )
        for slot in range(E)
    ]
    batcher = _batcher(batch_size=E + 1)
    batcher.add(rollout(0, 0, version=1), 4)
    assert batcher.covered == {0}
    batcher.add(rollout(2, 5, version=3, episodes=games), 4)
    first = batcher.next_batch()
    assert first is not None and len(batcher) == 1 and batcher.covered == set()
    assert [(piece.streams, piece.sequence_number) for piece in first.streams] == [
        (range(3), 0),
        (range(6, 7), 5),
    ]
    np.testing.assert_array_equal(first.policy_version_min, [1] * E + [3])
    assert [game.episodic_return for game in first.episodes] == [0.0]
    batcher.add(rollout(2, 6), 4)
    assert batcher.covered == {2}
    second = (
        batcher.next_batch()
    )  # streams 7 and 8 of the first, stream 6 of the second one; none of it twice
    assert second is None
    batcher.add(rollout(1, 0), 4)
    second = batcher.next_batch()
    assert second is not None
    assert [(piece.streams, piece.sequence_number) for piece in second.streams] == [
        (range(7, 9), 5),
        (range(6, 7), 6),
        (range(3, 4), 0),
    ]
    assert [game.episodic_return for game in second.episodes] == [1.0, 2.0]
    parts = [rollout(2, 5), rollout(2, 6), rollout(1, 0)]
    cuts = [slice(1, 3), slice(0, 1), slice(0, 1)]
    for name in ("observation", "reward", "terminated", "truncated", "reset", "action", "behaviour_logits"):
        expected = [getattr(part, name)[:, cut] for part, cut in zip(parts, cuts, strict=True)]
        np.testing.assert_array_equal(getattr(second, name).numpy(), np.concatenate(expected, axis=1))
    np.testing.assert_array_equal(second.previous_action[0].numpy(), [-3, -3, -3, -2])
    np.testing.assert_array_equal(second.initial_state[0][:, 0].numpy(), [2500.0, 2500.0, 2600.0, 1000.0])


def _of(actor_id: int, streams: range, incarnation: int, number: int = 0) -> Rollout:
    """A rollout of other streams than that actor's in this file, at most as many."""
    part = rollout(actor_id, number).columns(0, min(E, len(streams)))
    wide = [part] * -(-len(streams) // part.num_streams)
    joined = {
        name: np.concatenate([getattr(one, name) for one in wide], axis=1)[:, : len(streams)]
        for name in (
            "observation",
            "reward",
            "terminated",
            "truncated",
            "reset",
            "action",
            "behaviour_logits",
        )
    }
    state = np.full((len(streams), 5), 1.0, np.float32)
    return dataclasses.replace(
        part,
        **joined,
        previous_action=np.zeros(len(streams), np.int64),
        initial_state=(state,),
        first_stream=streams.start,
        incarnation=incarnation,
    )


def _pieces(batcher: Batcher) -> list[tuple[int, int, range]]:
    """Incarnation, number and streams of what waits."""
    return [
        (one.incarnation, one.sequence_number, range(one.first_stream, one.first_stream + one.num_streams))
        for one in batcher._waiting
    ]


def test_what_waits_of_before_a_scaling_makes_room_for_what_comes_after() -> None:
    """Of three actors' streams two take over. Else each stream of an overlap would have one rollout too many
    from then on, and after many scalings many."""
    batcher = _batcher(batch_size=8)
    for actor_id in (1, 2):
        batcher.add(_of(actor_id, range(3 * actor_id, 3 * actor_id + 3), 7), 0)
    assert batcher.covered == {1, 2}
    batcher.add(_of(1, range(4, 9), 8), 0)
    assert _pieces(batcher) == [(7, 0, range(3, 4)), (8, 0, range(4, 9))] and batcher.dropped == 2
    assert batcher.unrolls == {"dropped": 5, "waiting": 6}
    assert batcher.next_batch() is None and batcher.covered == {1}
    batcher.add(_of(0, range(4), 8), 0)
    batch = batcher.next_batch()
    assert batch is not None
    assert [(one.incarnation, one.streams) for one in batch.streams] == [(8, range(4, 9)), (8, range(3))]
    assert _pieces(batcher) == [(8, 0, range(3, 4))] and batcher.covered == set()
    batcher.add(_of(1, range(4, 9), 9), 0)
    batcher.add(_of(0, range(4), 8, 1), 0)
    assert batcher.dropped == 3, "who only lives anew carries the same: nothing is let go"
    batch = batcher.next_batch()
    assert batch is not None and len(batcher) == 1


def test_the_middle_of_what_waits_is_let_go_too() -> None:
    batcher = _batcher(batch_size=9)
    batcher.add(_of(0, range(9), 7), 0)
    batcher.add(_of(1, range(3, 6), 8), 0)
    assert _pieces(batcher) == [(7, 0, range(3)), (7, 0, range(6, 9)), (8, 0, range(3, 6))]
    assert batcher.covered == {1}


def test_what_waits_of_an_actors_life_before_does_not_cover_its_next_one() -> None:
    batcher = _batcher(batch_size=9)
    batcher.add(_of(1, range(3, 6), 7), 0)
    batcher.add(_of(1, range(2), 8), 0)
    assert batcher.covered == {1}
    del batcher._waiting[1]
    assert batcher.covered == set(), "three streams wait, and none of its two"


def test_columns_of_a_rollout_of_frames_keep_their_new_games() -> None:
    whole = rollout(1, game_over=np.arange((T + 1) * E).reshape(T + 1, E) % 2 == 0)
    part = whole.columns(1, 3)
    assert whole.game_over is not None and part.game_over is not None
    np.testing.assert_array_equal(part.game_over, whole.game_over[:, 1:3])
    part.validate()


def test_what_waits_is_written_down_and_taken_up() -> None:
    games = [
        EpisodeStats(
            episodic_return=float(slot), episodic_length=2, level="x", slot=slot, ended_by="truncation"
        )
        for slot in range(E)
    ]
    batcher, other = _batcher(batch_size=2), _batcher(batch_size=2)
    batcher.add(rollout(1, 4, version=2, episodes=games), 3)
    assert batcher.next_batch() is not None
    tensors, rest = split_state(batcher.state_dict(), "waiting")
    other.load_state_dict(join_state(rest, tensors))
    for one in (batcher, other):
        one.add(rollout(1, 5), 3)
    assert other.covered == batcher.covered == {1}
    mine, theirs = batcher.next_batch(), other.next_batch()
    assert mine is not None and theirs is not None
    assert theirs.streams == mine.streams and [game.episodic_return for game in theirs.episodes] == [2.0]
    assert theirs.episodes == mine.episodes
    for name in ("observation", "previous_action", "reset"):
        np.testing.assert_array_equal(getattr(theirs, name).numpy(), getattr(mine, name).numpy())
    np.testing.assert_array_equal(theirs.policy_version_min, mine.policy_version_min)


def test_what_waited_in_a_checkpoint_of_the_version_before_is_kept() -> None:
    """It told how many streams an actor carries, not which."""
    batcher, other = (_batcher(batch_size=2, num_actors=3) for _ in range(2))
    batcher.add(rollout(1, 4), 0)
    assert batcher.next_batch() is not None
    saved = batcher.state_dict()
    for one in saved:
        one["width"] = len(range(*one.pop("carried")))
    other.load_state_dict(saved)
    other.add(rollout(1, 5), 0)
    assert other.dropped == 0 and len(other) == 2 and other.covered == {1}


@pytest.mark.parametrize("wrong", [{"t": T - 1}, {"first_stream": 7}])
def test_rollout_of_another_size_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"expected {T} steps of streams below 9"):
        _batcher().add(rollout(0, **wrong), 0)


def test_rollouts_that_are_too_old_are_dropped_and_counted() -> None:
    batcher = _batcher(max_policy_lag=2)
    batcher.add(rollout(0, version=1), 4)
    assert (batcher.dropped, len(batcher)) == (1, 0)
    batcher.add(rollout(0, version=2), 4)
    assert (batcher.dropped, len(batcher)) == (1, 1)
    assert batcher.unrolls == {"dropped": E, "waiting": E}


def test_waiting_is_the_mean_over_a_batchs_columns_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """From when acting ended, on another node perhaps, whose clock may be ahead: never below 0."""
    monkeypatch.setattr("learner.batcher.time", SimpleNamespace(time=lambda: 103.0))
    for ends, expected in (((100.0, 101.0), 2500.0), ((100.0, 105.0), 1500.0)):
        batcher = _batcher()
        for actor_id, finished_at in enumerate(ends):
            batcher.add(rollout(actor_id, finished_at=finished_at), 0)
        batch = batcher.next_batch()
        assert batch is not None and batch.wait_ms == pytest.approx(expected)
    batcher = _batcher(batch_size=E + 1)
    for actor_id, finished_at in enumerate((100.0, 101.0)):
        batcher.add(rollout(actor_id, finished_at=finished_at), 0)
    batch = batcher.next_batch()
    assert batch is not None and batch.wait_ms == pytest.approx((3 * 3000.0 + 2000.0) / 4)


def test_a_rollout_knows_when_it_was_finished() -> None:
    before = time.time()
    assert before <= rollout(0).finished_at <= time.time()


def test_a_rollout_is_as_old_as_the_oldest_weights_that_acted_in_it() -> None:
    batcher = _batcher(max_policy_lag=3)
    batcher.add(rollout(0, policy_version_min=1, policy_version_max=5), 5)
    assert (batcher.dropped, len(batcher)) == (1, 0)
    batcher.add(rollout(1, policy_version_min=2, policy_version_max=5), 5)
    batcher.add(rollout(2, policy_version_min=3, policy_version_max=4), 5)
    batch = batcher.next_batch()
    assert batch is not None
    np.testing.assert_array_equal(batch.policy_version_min, [2] * E + [3] * E)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("reward", np.zeros((T + 1, E)), "float32"),
        ("reset", np.zeros((T, E), np.bool_), "rollout.reset"),
        ("observation", np.zeros((T, E, 3), np.float32), "rollout.observation"),
        ("initial_state", (np.zeros((E + 1, 5), np.float32),), "initial_state"),
        ("behaviour_logits", np.full((T, E, A), np.nan, np.float32), "NaN"),
        ("reward", np.full((T + 1, E), np.inf, np.float32), "rollout.reward of actor 0"),
        ("observation", np.full((T + 1, E, 3), np.nan, np.float32), "rollout.observation of actor 0"),
    ],
)
def test_bad_rollout_is_named(name: str, value: Any, words: str) -> None:
    rollout(0).validate()
    with pytest.raises(ValueError, match=words):
        rollout(0, **{name: value}).validate()
