"""The trace bank: one row of sensitivities a stream, on the learner's device, for the whole run.

A row belongs to (actor_id, slot) and holds the history of one incarnation up to the rollout that was
learned from last. A rollout that does not continue that history (a new incarnation, or a gap in the
sequence numbers) starts from a zero row and is counted; two histories are never mixed. The unroll's
backward advances the rows in place (`kernels.elstm.BankedTrace`): no copy of a trace is made.
"""

from __future__ import annotations

from typing import Any

import torch

from kernels.elstm import BankedTrace, ELSTMTrace
from learner.batcher import StreamPiece


class TraceBank:
    """`zero_trace` is a trace of num_actors * num_streams rows, all zero."""

    def __init__(self, zero_trace: ELSTMTrace, *, num_streams: int) -> None:
        self._bank = zero_trace
        self._num_streams = num_streams
        self._next: dict[int, tuple[int, int]] = {}

    def traces(self, streams: list[StreamPiece]) -> tuple[BankedTrace, int]:
        """The traces of a batch's columns, good for one forward and backward, and how many streams broke.

        Rows of streams that do not continue are zeroed here. A stream's first rollout ever is no break.
        """
        indices: list[int] = []
        fresh: list[int] = []
        breaks = 0
        for piece in streams:
            first = piece.actor_id * self._num_streams
            mine = range(first, first + piece.num_streams)
            indices += mine
            expected = self._next.get(piece.actor_id)
            if expected != (piece.incarnation, piece.sequence_number):
                fresh += mine
                if expected is not None or piece.sequence_number > 0:
                    breaks += piece.num_streams
            self._next[piece.actor_id] = (piece.incarnation, piece.sequence_number + 1)
        device = self._bank[0].device
        if fresh:
            zeroed = torch.tensor(fresh, device=device)
            for tensor in self._bank:
                tensor.index_fill_(0, zeroed, 0.0)
        return BankedTrace(self._bank, torch.tensor(indices)), breaks

    def state_dict(self) -> dict[str, Any]:
        return {"bank": list(self._bank), "next": {str(k): list(v) for k, v in self._next.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for tensor, saved in zip(self._bank, state["bank"], strict=True):
            tensor.copy_(saved)
        self._next = {int(k): (int(v[0]), int(v[1])) for k, v in state["next"].items()}
