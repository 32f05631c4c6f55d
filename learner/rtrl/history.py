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
    """One rollout of one stream; the fields of `Batch`, T steps of one column."""

    incarnation: int
    sequence_number: int
    observation: Any
    reward: Tensor
    reset: Tensor
    previous_action: Tensor
    initial_state: tuple[Tensor, ...]

    def precedes(self, piece: StreamPiece) -> bool:
        return (self.incarnation, self.sequence_number + 1) == (piece.incarnation, piece.sequence_number)


def _copy(T: int, column: int, part: Tensor) -> Tensor:
    return part[:T, column].clone()


def _to(device: torch.device, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _to(device, item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_to(device, item) for item in value)
    return value.to(device) if isinstance(value, Tensor) else value


def _joined(streams: list[list[Tensor]]) -> Tensor:
    """[B][R] columns [T, ...] as one tensor [R * T, B, ...]."""
    return torch.stack([torch.cat(rollouts) for rollouts in streams], 1)


class History:
    """The last `rollouts` rollouts of every stream, on the learner's device."""

    def __init__(self, rollouts: int) -> None:
        self._rollouts = rollouts
        self._past: dict[int, deque[_Past]] = {}

    def state_dict(self) -> list[dict[str, Any]]:
        """Every rollout kept, those of a stream oldest first."""
        return [
            {field.name: getattr(past, field.name) for field in dataclasses.fields(past)} | {"stream": stream}
            for stream, rollouts in self._past.items()
            for past in rollouts
        ]

    def load_state_dict(self, state: list[dict[str, Any]], device: torch.device) -> None:
        self._past = {}
        for saved in state:
            fields = {name: _to(device, value) for name, value in saved.items() if name != "stream"}
            self._of(saved["stream"]).append(_Past(**fields))

    def _of(self, stream: int) -> deque[_Past]:
        return self._past.setdefault(stream, deque(maxlen=self._rollouts))

    def append(self, batch: Batch) -> None:
        """Keeps a copy of the batch: its own buffers are used again."""
        T = batch.action.shape[0]
        columns = ((stream, piece) for piece in batch.streams for stream in piece.streams)
        for column, (stream, piece) in enumerate(columns):
            past = self._of(stream)
            if past and not past[-1].precedes(piece):
                past.clear()
            past.append(
                _Past(
                    piece.incarnation,
                    piece.sequence_number,
                    observation=map_observation(partial(_copy, T, column), batch.observation),
                    reward=_copy(T, column, batch.reward),
                    reset=_copy(T, column, batch.reset),
                    previous_action=_copy(T, column, batch.previous_action),
                    initial_state=tuple(tensor[column].clone() for tensor in batch.initial_state),
                )
            )

    @torch.no_grad()
    def fresh_traces(self, policy: Policy, batch: Batch) -> list[Trace]:
        """The traces that the batch's columns start from, under the present weights; one a layer.

        Exact where the episode began within the history kept; zero where there is none.
        """
        alike: dict[int, dict[int, deque[_Past]]] = {}
        columns = ((stream, piece) for piece in batch.streams for stream in piece.streams)
        for column, (stream, piece) in enumerate(columns):
            past = self._past.get(stream)
            if past and past[-1].precedes(piece):
                alike.setdefault(len(past), {})[column] = past
        whole = _layers(policy.initial_trace(batch.action.shape[1]))
        for group in alike.values():  # streams with as many rollouts kept, all at once
            trace = _layers(self._unrolled(policy, list(group.values())))
            rows = torch.tensor(list(group)).to(whole[0][0].device, non_blocking=True)
            for layer, part in zip(whole, trace, strict=True):
                for tensor, new in zip(layer, part, strict=True):
                    tensor.index_copy_(0, rows, new)
        return whole

    @staticmethod
    def _unrolled(policy: Policy, streams: list[deque[_Past]]) -> Any:
        observation = map_observation(
            lambda *parts: torch.stack(parts, 1),
            *(
                map_observation(lambda *parts: torch.cat(parts), *(past.observation for past in stream))
                for stream in streams
            ),
        )
        reward, reset, action = (
            _joined([[getattr(past, name) for past in stream] for stream in streams])
            for name in ("reward", "reset", "previous_action")
        )
        first = zip(*(stream[0].initial_state for stream in streams), strict=True)
        state = tuple(torch.stack(parts) for parts in first)
        x = policy.core_input(observation, reward, reset, action)
        return policy.core.unroll(x, state, reset, policy.initial_trace(len(streams)))[2]


def _layers(trace: Trace | list[Trace]) -> list[Trace]:
    return [trace] if isinstance(trace, Trace) else list(trace)
