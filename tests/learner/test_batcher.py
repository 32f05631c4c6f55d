"""A batch holds at most one rollout of a stream, oldest first, and says what it is made of."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from actors.rollout import EpisodeStats, Rollout
from learner.batcher import Batcher
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
        "incarnation": 7,
        "sequence_number": number,
        "policy_version_min": version,
        "policy_version_max": version,
    }
    return Rollout(**(fields | changes))


def _batcher(**changes: Any) -> Batcher:
    settings = {"num_actors": 3, "batch_size": 2 * E} | changes
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
    assert [piece.actor_id for piece in batch.streams] == [0, 2]
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
        taken.append([(piece.actor_id, piece.sequence_number) for piece in batch.streams])
    assert taken == [[(1, 0), (0, 0)], [(1, 1), (2, 0)]]
    assert len(batcher) == 1


@pytest.mark.parametrize("wrong", [{"t": T - 1}, {"action": np.zeros((T, E + 1), np.int64)}])
def test_rollout_of_another_size_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"expected {T} x {E}"):
        _batcher().add(rollout(0, **wrong), 0)


def test_rollouts_that_are_too_old_are_dropped_and_counted() -> None:
    batcher = _batcher(max_policy_lag=2)
    batcher.add(rollout(0, version=1), 4)
    assert (batcher.dropped, len(batcher)) == (1, 0)
    batcher.add(rollout(0, version=2), 4)
    assert (batcher.dropped, len(batcher)) == (1, 1)


def test_waiting_is_the_mean_over_a_batchs_rollouts_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """From when acting ended, on another node perhaps, whose clock may be ahead: never below 0."""
    monkeypatch.setattr("learner.batcher.time", SimpleNamespace(time=lambda: 103.0))
    for ends, expected in (((100.0, 101.0), 2500.0), ((100.0, 105.0), 1500.0)):
        batcher = _batcher()
        for actor_id, finished_at in enumerate(ends):
            batcher.add(rollout(actor_id, finished_at=finished_at), 0)
        batch = batcher.next_batch()
        assert batch is not None and batch.wait_ms == pytest.approx(expected)


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
