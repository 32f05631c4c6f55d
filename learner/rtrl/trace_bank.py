"""The trace bank: one row of sensitivities a stream, on the learner's device, for the whole run.

A row belongs to a stream, whoever carries it, and holds the history of one incarnation up to the rollout that
was learned from last. A rollout that does not continue that history (a new incarnation, or a gap in the
sequence numbers) starts from a zero row and is counted; two histories are never mixed. The unroll's
backward advances the rows in place (`kernels.rtrl.BankedTrace`): no copy of a trace is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.elstm import ELSTMTrace
from kernels.rtrl import BankedTrace, Trace
from learner.batcher import StreamPiece
from learner.records.state import fill


@dataclass(frozen=True, slots=True)
class BatchTraces:
    """The rows of one batch's columns, good for one forward and one backward."""

    layers: list[BankedTrace]
    """One a layer of the core, lowest first."""

    @property
    def for_core(self) -> BankedTrace | list[BankedTrace]:
        """As the core's `unroll` takes them: a stack takes a list."""
        return self.layers[0] if len(self.layers) == 1 else self.layers

    def gather(self) -> list[Trace]:
        """Copies of the rows."""
        return [layer.gather() for layer in self.layers]

    def write(self, traces: Sequence[Trace]) -> None:
        """Overwrites the rows, before the forward."""
        for layer, trace in zip(self.layers, traces, strict=True):
            rows = layer.rows_on(trace[0].device)
            for mine, new in zip(layer.bank, trace, strict=True):
                mine.index_copy_(0, rows, new)

    def zero(self) -> None:
        for layer in self.layers:
            for tensor in layer.bank:
                tensor.index_fill_(0, layer.rows_on(tensor.device), 0.0)

    def bound(self, max_norm: float) -> Tensor:
        """Scales rows of greater norm, over what is stored, down to it, after the backward. Returns how many
        streams that was, [].

        A row that is not finite stays so: no scale brings it back, and the next gradient tells of it.
        """
        traces = self.gather()
        largest, norm = _norms([tensor for trace in traces for tensor in trace])
        scale = (max_norm / largest / norm).clamp(max=1.0).nan_to_num(1.0)
        self.write([t.map(lambda s: s * scale.view(-1, *[1] * (s.ndim - 1))) for t in traces])
        return (scale < 1.0).sum()


def _norms(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Of each row over all of `tensors`: its largest size, and its norm in units of that, both [rows].

    In two parts: in float32 the square of 2e19 is infinite. NaN where a number of the row is not finite.
    """
    rows = [tensor.flatten(1) for tensor in tensors]
    largest = torch.stack([row.abs().amax(1) for row in rows]).amax(0)
    unit = largest.clamp(min=torch.finfo(largest.dtype).tiny)
    squares = torch.stack([(row / unit[:, None]).square().sum(1) for row in rows]).sum(0)
    return largest, squares.sqrt()


class TraceBank:
    """`zero_trace`: what the core's `initial_trace(num_streams)` gives."""

    def __init__(self, zero_trace: Trace | list[Trace]) -> None:
        self._layers = [zero_trace] if isinstance(zero_trace, Trace) else zero_trace
        self._next: dict[int, tuple[int, int]] = {}

    def traces(self, streams: list[StreamPiece]) -> tuple[BatchTraces, int]:
        """The traces of a batch's columns, and how many streams broke.

        Rows of streams that do not continue are zeroed here. A stream's first rollout ever is no break.
        """
        indices: list[int] = []
        fresh: list[int] = []
        breaks = 0
        for piece in streams:
            indices += piece.streams
            for stream in piece.streams:
                expected = self._next.get(stream)
                if expected != (piece.incarnation, piece.sequence_number):
                    fresh.append(stream)
                    breaks += expected is not None or piece.sequence_number > 0
                self._next[stream] = (piece.incarnation, piece.sequence_number + 1)
        if fresh:
            BatchTraces([BankedTrace(layer, torch.tensor(fresh)) for layer in self._layers]).zero()
        rows = torch.tensor(indices)
        return BatchTraces([BankedTrace(layer, rows) for layer in self._layers]), breaks

    def state_dict(self) -> dict[str, Any]:
        return {
            "layers": [list(layer) for layer in self._layers],
            "next": {str(k): list(v) for k, v in self._next.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for layer, saved in zip(self._layers, state["layers"], strict=True):
            if len(saved) == 6:  # an eLSTM's, of a checkpoint from before a trace was one tensor a kind
                saved = ELSTMTrace(*saved).packed()
            for tensor, value in zip(layer, saved, strict=True):
                fill(tensor, value)
        self._next = {int(k): (int(v[0]), int(v[1])) for k, v in state["next"].items()}
