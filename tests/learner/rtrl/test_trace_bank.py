"""Rows follow streams: continued, broken, never mixed."""

from __future__ import annotations

import torch

from kernels.elstm import ELSTMTrace
from learner.batcher import StreamPiece
from learner.rtrl.trace_bank import BatchTraces, TraceBank

E, N, D = 2, 3, 4


def _bank() -> TraceBank:
    return TraceBank(ELSTMTrace.zeros(3 * E, N, D, torch.device("cpu"), torch.float32), num_streams=E)


def _fill(traces: BatchTraces, value: float) -> None:
    """In the place of a backward pass."""
    traces.write([trace.map(lambda s: torch.full_like(s, value)) for trace in traces.gather()])


def _content(bank: TraceBank, piece: StreamPiece) -> tuple[list[float], int]:
    trace, breaks = bank.traces([piece])
    return [float(value) for value in trace.gather()[0].W_z[:, 0, 0]], breaks


def test_a_continued_stream_keeps_its_trace_whatever_the_order_of_columns() -> None:
    bank = _bank()
    trace, breaks = bank.traces([StreamPiece(2, 5, 0, E), StreamPiece(0, 6, 0, E)])
    assert trace.layers[0].rows.tolist() == [4, 5, 0, 1] and breaks == 0
    _fill(bank.traces([StreamPiece(2, 5, 0, E)])[0], 2.0)
    _fill(bank.traces([StreamPiece(0, 6, 0, E)])[0], 9.0)
    assert _content(bank, StreamPiece(0, 6, 1, E)) == ([9.0, 9.0], 0)
    assert _content(bank, StreamPiece(2, 5, 1, E)) == ([2.0, 2.0], 0)


def test_new_incarnation_and_gap_start_from_zero_and_are_counted() -> None:
    for broken in (StreamPiece(1, 99, 0, E), StreamPiece(1, 5, 2, E), StreamPiece(1, 5, 0, E)):
        bank = _bank()
        _fill(bank.traces([StreamPiece(1, 5, 0, E)])[0], 3.0)
        _fill(bank.traces([StreamPiece(0, 4, 0, E)])[0], 8.0)
        assert _content(bank, broken) == ([0.0, 0.0], E)
        assert _content(bank, StreamPiece(0, 4, 1, E)) == ([8.0, 8.0], 0), "another stream was touched"
    bank = _bank()
    assert bank.traces([StreamPiece(1, 5, 3, E)])[1] == E, (
        "a stream first seen in mid-history has lost its past"
    )


def test_state_survives_a_round_trip() -> None:
    bank = _bank()
    _fill(bank.traces([StreamPiece(1, 5, 0, E)])[0], 3.0)
    other = _bank()
    other.load_state_dict(bank.state_dict())
    assert _content(other, StreamPiece(1, 5, 1, E)) == ([3.0, 3.0], 0)
