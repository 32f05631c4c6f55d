"""What streams went through lately, so that a trace can be computed anew under the present weights."""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from actors.policy import Policy
from actors.rollout import map_observation
from kernels.rtrl import Trace
from learner.batcher import Batch, StreamPiece


@dataclass(frozen=True, slots=True)
class _Past:
    """One rollout of one actor's streams; the fields of `Batch`, T steps each."""

    piece: StreamPiece
    observation: Any
    reward: Tensor
    reset: Tensor
    previous_action: Tensor
    initial_state: tuple[Tensor, ...]

    def precedes(self, piece: StreamPiece) -> bool:
        mine = self.piece
        return (mine.incarnation, mine.sequence_number + 1) == (piece.incarnation, piece.sequence_number)


def _copy(T: int, columns: slice, part: Tensor) -> Tensor:
    return part[:T, columns].clone()


def _to(device: torch.device, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _to(device, item) for name, item in value.items()}
    return tuple(_to(device, item) for item in value) if isinstance(value, tuple) else value.to(device)


class History:
    """The last `rollouts` rollouts of every actor, on the learner's device."""

    def __init__(self, rollouts: int) -> None:
        self._rollouts = rollouts
        self._past: dict[int, deque[_Past]] = {}

    def state_dict(self) -> list[dict[str, Any]]:
        """Every rollout kept, those of an actor oldest first."""
        return [
            {field.name: getattr(past, field.name) for field in dataclasses.fields(past)}
            | {"piece": list(dataclasses.astuple(past.piece))}
            for rollouts in self._past.values()
            for past in rollouts
        ]

    def load_state_dict(self, state: list[dict[str, Any]], device: torch.device) -> None:
        self._past = {}
        for saved in state:
            tensors = {name: value for name, value in saved.items() if name != "piece"}
            past = _Past(StreamPiece(*saved["piece"]), **_to(device, tensors))
            self._of(past.piece.actor_id).append(past)

    def _of(self, actor_id: int) -> deque[_Past]:
        return self._past.setdefault(actor_id, deque(maxlen=self._rollouts))

    def append(self, batch: Batch) -> None:
        """Keeps a copy of the batch: its own buffers are used again."""
        T, start = batch.action.shape[0], 0
        for piece in batch.streams:
            columns = slice(start, start + piece.num_streams)
            start += piece.num_streams
            past = self._of(piece.actor_id)
            if past and not past[-1].precedes(piece):
                past.clear()
            past.append(
                _Past(
                    piece,
                    observation=map_observation(partial(_copy, T, columns), batch.observation),
                    reward=batch.reward[:T, columns].clone(),
                    reset=batch.reset[:T, columns].clone(),
                    previous_action=batch.previous_action[:T, columns].clone(),
                    initial_state=tuple(tensor[columns].clone() for tensor in batch.initial_state),
                )
            )

    @torch.no_grad()
    def fresh_traces(self, policy: Policy, batch: Batch) -> list[Trace]:
        """The traces that the batch's columns start from, under the present weights; one a layer.

        Exact where the episode began within the history kept; zero where there is none.
        """
        layers: list[list[Trace]] = []
        for piece in batch.streams:
            trace = policy.initial_trace(piece.num_streams)
            past = self._past.get(piece.actor_id)
            if past and past[-1].precedes(piece):
                observation = map_observation(lambda *parts: torch.cat(parts), *(p.observation for p in past))
                fields = zip(*((p.reward, p.reset, p.previous_action) for p in past), strict=True)
                reward, reset, action = (torch.cat(parts) for parts in fields)
                x = policy.core_input(observation, reward, reset, action)
                _, _, trace = policy.core.unroll(x, past[0].initial_state, reset, trace)
            layers.append([trace] if isinstance(trace, Trace) else list(trace))
        return [
            Trace(*(torch.cat(tensors) for tensors in zip(*layer, strict=True)))
            for layer in zip(*layers, strict=True)
        ]
