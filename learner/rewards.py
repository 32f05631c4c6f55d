"""Running normalisation of rewards: by the deviation of the discounted return.

As Gymnasium's NormalizeReward and the code of arXiv 2409.01449 do: of each stream the sum
R_t = r_t + discounting R_{t-1}, from each episode's start, is followed, and rewards are divided by the
standard deviation of all its values so far. No mean is taken off, which would change what is best. In the
loss alone: the wire, the core's previous reward (the raw one, clipped, while acting and learning alike) and
all returns that are told stay raw. One deviation serves a whole batch, which is taken in before: no ratio of
probabilities hangs on it, and the first batch has one.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from actors.policy.normalise import AddUp, RunningMoments, alone
from kernels.vtrace import vtrace
from learner.batcher import Batch
from learner.records.state import fill

_EPSILON = 1e-8


class RewardNormaliser:
    """Owns the moments of the run, and every stream's sum up to the rollout that was learned from last."""

    def __init__(self, discounting: float, num_streams: int, device: torch.device) -> None:
        self._discounting = discounting
        self._moments = RunningMoments(1).to(device)
        self._sums = torch.zeros(num_streams, device=device)
        self._next: dict[int, tuple[int, int]] = {}
        """By stream: the incarnation and sequence number of the rollout that goes on with its sum."""

    @property
    def deviation(self) -> Tensor:
        """[] what rewards are divided by."""
        return (self._moments.variance[0] + _EPSILON).sqrt()

    def tensors(self) -> list[Tensor]:
        """What a batch moves."""
        return [*self._moments.buffers(), self._sums]

    def __call__(self, batch: Batch, add_up: AddUp = alone) -> Batch:
        """The batch is taken in, with those of all that it is added up over; returns it with its
        `reward_deviation`."""
        rows: list[int] = []
        goes_on: list[bool] = []
        for piece in batch.streams:
            for stream in piece.streams:
                rows.append(stream)
                goes_on.append(self._next.get(stream) == (piece.incarnation, piece.sequence_number))
                self._next[stream] = (piece.incarnation, piece.sequence_number + 1)
        device = self._sums.device
        at = torch.tensor(rows).to(device, non_blocking=True)
        known = torch.tensor(goes_on).to(device, non_blocking=True)
        first = torch.where(known, self._sums[at], 0.0)
        sums = discounted_sums(batch.reward[1:], batch.reset[1:], first, self._discounting)
        self._sums[at] = sums[-1].to(self._sums.dtype)
        self._moments.take(sums.reshape(-1, 1), ~batch.reset[1:].reshape(-1), add_up)
        return dataclasses.replace(batch, reward_deviation=self.deviation.to(batch.reward.dtype))

    def follow(self, add_up: AddUp) -> None:
        """Takes what all others take, and has nothing itself."""
        self._moments.take(self._sums.new_zeros(0, 1), add_up=add_up)

    # --- checkpoints ---------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return self._moments.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._moments.load_state_dict(state)

    def streams_state(self) -> dict[str, Any]:
        """Of use where the same streams go on."""
        return {"sums": self._sums, "next": {str(k): list(v) for k, v in self._next.items()}}

    def load_streams(self, state: dict[str, Any]) -> None:
        fill(self._sums, state["sums"])
        self._next = {int(k): (int(v[0]), int(v[1])) for k, v in state["next"].items()}


def discounted_sums(reward: Tensor, starts: Tensor, first: Tensor, discounting: float) -> Tensor:
    """R_t = r_t + discounting R_{t-1} over [T, B], from `first` [B]; anew, from 0, where `starts` [T, B].

    V-trace's recursion on-policy, with values of 0, backwards in time: one launch on a GPU.
    """
    zeros = torch.zeros_like(reward)
    earned = torch.where(starts, zeros, reward)
    earned = torch.cat([torch.where(starts[:1], 0.0, earned[:1] + discounting * first), earned[1:]])
    discounts = torch.full_like(reward, discounting)
    return vtrace(zeros, earned.flip(0), discounts, zeros, zeros, ~starts.flip(0)).vs.flip(0)
