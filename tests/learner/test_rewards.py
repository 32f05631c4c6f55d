"""Normalised rewards: the deviation of the discounted return by a loop in NumPy, over streams that break."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from actors.policy import Policy
from configs.schema import PolicyConfig
from learner.batcher import Batch, StreamPiece
from learner.learner import Learner
from learner.rewards import RewardNormaliser
from tests.learner.batches import SPEC, config, random_batch

T, B, GAMMA = 6, 4, 0.9
CPU = torch.device("cpu")
ENDS = [(2, 1, "terminated"), (6, 0, "truncated"), (5, 3, "terminated")]


def _batch(number: int, *pieces: StreamPiece, first_reset: tuple[int, ...] = ()) -> Batch:
    batch = random_batch(T, B, seed=number, ends=ENDS, first_reset=first_reset)
    reward = 3.0 * batch.reward + 1.0
    reward[batch.reset] = 100.0  # what came with an episode's first step is not the loss's affair
    return dataclasses.replace(batch, reward=reward, streams=list(pieces))


class Loop:
    """The same step by step: sums a stream, all values of them in one list."""

    def __init__(self) -> None:
        self.sums: dict[int, float] = {}
        self.next: dict[int, tuple[int, int]] = {}
        self.values: list[float] = []

    def deviation(self, batch: Batch) -> float:
        columns = [(stream, piece) for piece in batch.streams for stream in piece.streams]
        for column, (stream, piece) in enumerate(columns):
            goes_on = self.next.get(stream) == (piece.incarnation, piece.sequence_number)
            total = self.sums.get(stream, 0.0) if goes_on else 0.0
            for t in range(1, T + 1):
                if batch.reset[t, column]:
                    total = 0.0
                    continue
                total = float(batch.reward[t, column]) + GAMMA * total
                self.values.append(total)
            self.sums[stream] = total
            self.next[stream] = (piece.incarnation, piece.sequence_number + 1)
        return float(np.std(self.values))


def test_the_deviation_is_that_of_every_streams_discounted_sum() -> None:
    ours, loop = RewardNormaliser(GAMMA, 6, CPU), Loop()
    batches = [
        _batch(0, StreamPiece(0, 7, 0, 2), StreamPiece(2, 7, 0, 2), first_reset=(0, 1, 2, 3)),
        _batch(1, StreamPiece(2, 7, 1, 2), StreamPiece(0, 7, 1, 2)),  # each goes on in other columns
        _batch(2, StreamPiece(0, 7, 2, 2), StreamPiece(2, 7, 2, 2)),
        _batch(3, StreamPiece(0, 7, 4, 2), StreamPiece(2, 8, 3, 2)),  # a gap; another life
        _batch(
            4, StreamPiece(4, 7, 5, 2), StreamPiece(1, 7, 5, 1), StreamPiece(3, 8, 4, 1), first_reset=(2,)
        ),
    ]
    for number, batch in enumerate(batches):
        expected = loop.deviation(batch)
        taken = ours(batch)
        assert taken.reward_deviation is not None
        assert float(taken.reward_deviation) == pytest.approx(expected, rel=1e-7), number
        assert torch.equal(taken.learned_reward, batch.reward[1:] / taken.reward_deviation)
        assert torch.equal(taken.reward, batch.reward)
        assert torch.equal(batch.learned_reward, batch.reward[1:])


def test_a_reward_of_always_zero_stays_zero() -> None:
    batch = random_batch(T, B, seed=0)
    taken = RewardNormaliser(GAMMA, B, CPU)(dataclasses.replace(batch, reward=torch.zeros_like(batch.reward)))
    assert torch.equal(taken.learned_reward, torch.zeros(T, B, dtype=torch.float64))


def _learner(**changes: Any) -> Learner:
    torch.manual_seed(0)
    policy = PolicyConfig(encoder="none", core="none", normalise_observations=True)
    settings = {"policy": policy, "credit": "tbptt", "normalise_rewards": True, "discounting": GAMMA}
    settings |= {"unroll_length": T, "optimizer": "adam"} | changes
    run = config(**settings)
    return Learner(Policy(SPEC, run.policy), run, CPU)


def _learned(number: int) -> Batch:
    batch = random_batch(T, 3, seed=number, dtype=torch.float32, piece=(0, 7, number))
    return dataclasses.replace(batch, observation=batch.observation * 3.0 + 1.0, reward=50.0 * batch.reward)


def test_the_loss_reads_rewards_divided_then_clipped_then_scaled() -> None:
    """As a learner without normalisation does of a batch whose rewards were divided by hand."""
    policy = PolicyConfig(encoder="none", core="none", previous_reward=False)
    options = {"policy": policy, "reward_clipping": "abs_one", "reward_scale": 0.3}
    ours, plain = _learner(**options), _learner(normalise_rewards=False, **options)
    for number in range(3):
        batch = _learned(number)
        metrics = ours.update(batch)
        deviation = metrics["normalise/return_deviation"]
        expected = plain.update(dataclasses.replace(batch, reward=batch.reward / deviation))
        assert deviation > 20.0
        assert metrics["losses/total"] == pytest.approx(expected["losses/total"], rel=1e-5)
        weights = plain.policy.state_dict()
        for name, tensor in ours.policy.state_dict().items():
            torch.testing.assert_close(tensor, weights[name], rtol=1e-5, atol=1e-6)


def test_a_batch_is_learned_with_the_statistics_it_was_acted_with_and_then_counts_without_its_last_step() -> (
    None
):
    """Acted with the present weights, it has ratios of 1, whatever the statistics do afterwards."""
    learner = _learner(lambda_=1.0)
    seen = []
    for number in range(3):
        batch = _learned(number)
        unroll = learner.policy.unroll(
            batch.observation, batch.reward, batch.reset, (), batch.previous_action
        )
        metrics = learner.update(dataclasses.replace(batch, behaviour_logits=unroll.logits.detach()))
        assert metrics["vtrace/rho_mean"] == pytest.approx(1.0, abs=1e-6)
        assert (metrics["vtrace/c_mean"], metrics["vtrace/rho_clip_frac"]) == (
            pytest.approx(1.0, abs=1e-6),
            0.0,
        )
        seen.append(batch.observation[:T].reshape(-1, 3).numpy().astype(np.float64))
        state = learner.policy.state_dict()
        together = np.concatenate(seen)
        assert state["encoder.normalise.moments.0.count"] == len(together)
        np.testing.assert_allclose(state["encoder.normalise.moments.0.mean"], together.mean(0), rtol=1e-12)
        np.testing.assert_allclose(state["encoder.normalise.moments.0.variance"], together.var(0), rtol=1e-12)


def test_statistics_go_on_from_a_checkpoint() -> None:
    ours, other = _learner(), _learner(seed=2)
    for number in range(2):
        ours.update(_learned(number))
    state = copy.deepcopy(ours.state_dict())
    other.load_state_dict(state)
    other.load_traces(state)
    expected, got = ours.update(_learned(2)), other.update(_learned(2))
    assert all(got[name] == value for name, value in expected.items() if not name.startswith("perf/"))
    alone = _learner()
    alone.load_state_dict(state)  # new streams: the moments stay, the sums begin at 0
    deviation = alone.update(_learned(2))["normalise/return_deviation"]
    assert deviation != expected["normalise/return_deviation"]
    assert deviation == pytest.approx(expected["normalise/return_deviation"], rel=0.2)
