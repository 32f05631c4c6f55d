"""Whatever the layout: every rollout of a stream is learned from once, in order, and none waits for ever."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.collect import Collector
from actors.rollout import Rollout
from configs.schema import EnvConfig
from envs.make import make_vec
from learner.batcher import Batch, Batcher
from tests.actors.counting_cell import CountingCell
from tests.learner.batches import config

T, LENGTH = 3, 2


def lived(slot: int, steps: int, length: int = LENGTH) -> list[tuple[int, int]]:
    """(index, episode) of the observations of one slot of the counting env, whose episodes are length + slot
    steps long."""
    seen, index, episode = [], 0, 0
    while len(seen) < steps:
        seen.append((index, episode))
        index, episode = (0, episode + 1) if index == length + slot else (index + 1, episode)
    return seen


class Actors:
    """Collectors of `widths` streams each, which finish rollouts in any order and are replaced at times."""

    made = 0
    """Columns of rollouts that were handed out."""

    def __init__(self, widths: list[int], seed: int) -> None:
        self._random = random.Random(seed)
        self._speed = [self._random.choice([1, 1, 5]) for _ in widths]
        self.first = np.cumsum([0, *widths]).tolist()
        self._widths, self._lives = widths, 0
        self._collectors = [self._born(actor_id) for actor_id in range(len(widths))]

    def _born(self, actor_id: int) -> Collector:
        self._lives += 1
        return Collector(
            [make_vec(EnvConfig(id=f"counting/{LENGTH}", num_envs=self._widths[actor_id]))],
            CountingCell(),
            unroll_length=T,
            actor_id=actor_id,
            first_stream=self.first[actor_id],
            incarnation=self._lives,
            env_seed=1,
        )

    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout:
        free = sorted(set(range(len(self._widths))) - set(skip))
        assert free, "every stream has a rollout here, and no batch comes of it"
        actor_id = self._random.choices(free, [self._speed[a] for a in free])[0]
        if self._random.random() < 0.05:
            self._collectors[actor_id] = self._born(actor_id)
        self.made += self._widths[actor_id]
        return self._collectors[actor_id].collect()

    def feed(self, batcher: Batcher) -> int:
        """One rollout of an actor that the batcher has room for; its id."""
        rollout = self.next_rollout(0.0, batcher.covered)
        batcher.add(rollout, 0)
        return rollout.actor_id


def check(batch: Batch, size: int, first: list[int], learned: dict[tuple[int, int], int]) -> list[int]:
    """Its streams, after a look at every column."""
    column = 0
    for piece in batch.streams:
        for stream in piece.streams:
            life = (stream, piece.incarnation)
            assert piece.sequence_number == learned[life], f"rollouts of stream {stream} were lost or swapped"
            learned[life] += 1
            slot = stream - max(number for number in first if number <= stream)
            start = piece.sequence_number * T
            expected = lived(slot, start + T + 1)[start:]
            seen = batch.observation[:, column].tolist()
            assert seen == [[index, episode, slot] for index, episode in expected]
            column += 1
    streams = [stream for piece in batch.streams for stream in piece.streams]
    assert column == size == len(set(streams)) == batch.action.shape[1] == len(batch.policy_version_min)
    return streams


def _learn(widths: list[int], size: int, batches: int, seed: int) -> Counter[int]:
    """How often each stream was learned from."""
    actors, total = Actors(widths, seed), sum(widths)
    settings = config(num_streams=total, batch_size=size, unroll_length=T)
    batcher = Batcher(settings, torch.device("cpu"))
    learned: dict[tuple[int, int], int] = defaultdict(int)
    counts: Counter[int] = Counter(dict.fromkeys(range(total), 0))
    waits: list[list[int]] = []
    for number in range(batches):
        while (batch := batcher.next_batch()) is None:
            actor_id = actors.feed(batcher)
            waits += [[number, stream] for stream in range(*actors.first[actor_id : actor_id + 2])]
        for stream in check(batch, size, actors.first, learned):
            counts[stream] += 1
            arrived = next(wait for wait in waits if wait[1] == stream)
            waits.remove(arrived)
            assert number - arrived[0] <= 2 * total / size + 1, f"stream {stream} waited too long"
    assert actors.made == counts.total() + batcher.unrolls["waiting"] and batcher.unrolls["dropped"] == 0
    return counts


@pytest.mark.parametrize(
    ("widths", "size"),
    [
        ([48], 32),
        ([48], 7),
        ([48], 5),
        ([48], 48),
        ([1] * 48, 32),
        ([24, 24], 32),
        ([7, 7, 6], 13),
        ([2, 1], 1),
    ],
)
def test_layouts_that_do_not_fit_the_batch(widths: list[int], size: int) -> None:
    counts = _learn(widths, size, 60, seed=1)
    assert sum(counts.values()) == 60 * size
    if len(widths) == 1:  # one actor: all go forward together
        assert max(counts.values()) - min(counts.values()) <= 1


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_layout(data: st.DataObject) -> None:
    widths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5), "streams of each actor")
    size = data.draw(st.integers(1, sum(widths)), "batch_size")
    counts = _learn(widths, size, 25, seed=data.draw(st.integers(0, 2**16), "seed"))
    assert sum(counts.values()) == 25 * size
