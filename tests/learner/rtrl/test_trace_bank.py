"""Rows follow streams: continued, broken, never mixed."""

from __future__ import annotations

import math

import pytest
import torch

from kernels.elstm import ELSTMTrace
from learner.batcher import StreamPiece
from learner.rtrl.trace_bank import BatchTraces, TraceBank

E, N, D = 2, 3, 16  # rows of 16 inputs are not padded: every number of a row is one of its trace


def _bank() -> TraceBank:
    return TraceBank(ELSTMTrace.zeros(3 * E, N, D).packed())


def _fill(traces: BatchTraces, value: float) -> None:
    """In the place of a backward pass."""
    traces.write([trace.map(lambda s: torch.full_like(s, value)) for trace in traces.gather()])


def _content(bank: TraceBank, piece: StreamPiece) -> tuple[list[float], int]:
    trace, breaks = bank.traces([piece])
    return [float(value) for value in trace.gather()[0].matrices[:, 0, 0, 0, 0]], breaks


def test_a_continued_stream_keeps_its_trace_whatever_the_order_of_columns() -> None:
    bank = _bank()
    trace, breaks = bank.traces([StreamPiece(2 * E, 5, 0, E), StreamPiece(0, 6, 0, E)])
    assert trace.layers[0].rows.tolist() == [4, 5, 0, 1] and breaks == 0
    _fill(bank.traces([StreamPiece(2 * E, 5, 0, E)])[0], 2.0)
    _fill(bank.traces([StreamPiece(0, 6, 0, E)])[0], 9.0)
    assert _content(bank, StreamPiece(0, 6, 1, E)) == ([9.0, 9.0], 0)
    assert _content(bank, StreamPiece(2 * E, 5, 1, E)) == ([2.0, 2.0], 0)


def test_new_incarnation_and_gap_start_from_zero_and_are_counted() -> None:
    for broken in [StreamPiece(E, *life, E) for life in ((99, 0), (99, 1), (5, 2), (5, 0))]:
        bank = _bank()
        _fill(bank.traces([StreamPiece(E, 5, 0, E)])[0], 3.0)
        _fill(bank.traces([StreamPiece(0, 4, 0, E)])[0], 8.0)
        assert _content(bank, broken) == ([0.0, 0.0], E)
        assert _content(bank, StreamPiece(0, 4, 1, E)) == ([8.0, 8.0], 0), "another stream was touched"
    bank = _bank()
    assert bank.traces([StreamPiece(E, 5, 3, E)])[1] == E, (
        "a stream first seen in mid-history has lost its past"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_bound_scales_rows_of_any_finite_size_and_leaves_the_others_alone(dtype: torch.dtype) -> None:
    bank = TraceBank(ELSTMTrace.zeros(3 * E, N, D, dtype=dtype).packed())
    traces, _ = bank.traces([StreamPiece(actor * E, 5, 0, E) for actor in range(3)])
    sizes = torch.tensor([0.0, 1e-3, 5.0, 3e19, 3e38, math.inf], dtype=dtype)
    traces.write([t.map(lambda s: s + sizes.view(-1, *[1] * (s.ndim - 1))) for t in traces.gather()])
    assert traces.bound(2.0) == 3
    after = torch.cat([s.flatten(1) for s in traces.gather()[0]], 1).double()
    numbers = after.shape[1]
    norms = after.norm(dim=1)
    expected = torch.tensor([0.0, 1e-3 * math.sqrt(numbers), 2.0, 2.0, 2.0, math.inf]).double()
    torch.testing.assert_close(norms, expected, rtol=1e-5, atol=0)


def test_streams_may_be_cut_otherwise_each_time_and_one_that_broke_does_not_break_its_neighbours() -> None:
    bank = _bank()
    _fill(bank.traces([StreamPiece(0, 5, 0, 6)])[0], 3.0)
    _fill(bank.traces([StreamPiece(1, 5, 1, 3)])[0], 4.0)
    trace, breaks = bank.traces([StreamPiece(2, 5, 2, 1), StreamPiece(3, 5, 1, 3), StreamPiece(0, 5, 1, 1)])
    content = trace.gather()[0].matrices[:, 0, 0, 0, 0]
    assert content.tolist() == [4.0, 0.0, 3.0, 3.0, 3.0] and breaks == 1


def test_state_survives_a_round_trip() -> None:
    bank = _bank()
    _fill(bank.traces([StreamPiece(E, 5, 0, E)])[0], 3.0)
    other = _bank()
    other.load_state_dict(bank.state_dict())
    assert _content(other, StreamPiece(E, 5, 1, E)) == ([3.0, 3.0], 0)


def test_a_bound_scales_the_rows_above_it_down_to_it_and_leaves_the_others() -> None:
    traces, _ = _bank().traces([StreamPiece(0, 5, 0, E), StreamPiece(2 * E, 5, 0, E)])
    sizes = torch.tensor([0.5, 3.0, 1.5, 0.01])  # of every number of a row; a row has 2 N D + 4 N of them
    traces.write([trace.map(lambda s: torch.ones_like(s) * sizes.view(-1, *[1] * (s.ndim - 1)))
                  for trace in traces.gather()])  # fmt: skip
    count = 2 * N * D + 4 * N
    bound = 1.5 * count**0.5  # of the whole row, over all six tensors
    assert traces.bound(1.01 * bound) == 1
    expected = torch.tensor([0.5, 1.01 * 1.5, 1.5, 0.01])
    for tensor in traces.gather()[0]:
        torch.testing.assert_close(
            tensor, torch.ones_like(tensor) * expected.view(-1, *[1] * (tensor.ndim - 1))
        )
    assert traces.bound(10.0 * bound) == 0
