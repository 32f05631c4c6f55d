"""torch's LSTM with resets inside the unroll, trained by TBPTT."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from kernels.cells.core import Core, State, zero_at


class LSTM(Core):
    """State (h, c), each [B, N]; weights, names and start values of a one-layer `nn.LSTM`, with
    `forget_bias` added to the forget gate's bias."""

    def __init__(self, input_size: int, hidden_size: int, forget_bias: float = 0.0) -> None:
        super().__init__(input_size, hidden_size)
        self.lstm = nn.LSTM(input_size, hidden_size)
        with torch.no_grad():  # the gates' order is input, forget, cell, output
            self.lstm.get_parameter("bias_ih_l0")[hidden_size : 2 * hidden_size] += forget_bias

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        weight = self.lstm.get_parameter("weight_hh_l0")
        zeros = weight.new_zeros(2, batch, self.output_size, device=device)
        return zeros[0], zeros[1]

    def recurrent_parameters(self) -> list[nn.Parameter]:
        return list(self.lstm.parameters())

    def step(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        h_0, c_0 = (zero_at(reset, s)[None] for s in state)
        h, (h_n, c_n) = self.lstm(x[None], (h_0, c_0))
        return h[0], (h_n[0], c_n[0])

    def unroll(
        self, x: Tensor, state: State, reset: Tensor, trace: Any = None, backend: str = "auto"
    ) -> tuple[Tensor, State, Any]:
        """backend: how torch's LSTM, which knows no resets, is called.

        "stretches": once for each stretch of steps in which no column is reset. Fastest on a CPU, where a
        call costs little and packing gathers and scatters. On a GPU it is a Python loop over the stretches,
        of which a wide batch has nearly as many as steps.
        "packed": once in all. Every column is cut at its resets, and the pieces are one packed batch of
        sequences of unequal length. There is no Python loop over T or over the resets: the number of calls
        and of launches outside torch's LSTM is the same for any T and any resets (tests/kernels/
        test_host_waits.py). The one wait is for `reset` to reach the host.
        "steps": a cell call a step, states masked before each. Asks the host nothing, so that a CUDA graph
        can capture it, which makes its T small launches cheap to repeat; without a graph the slowest.
        "auto": packed on a GPU, stretches elsewhere. The choice for the GPU is by count of launches and
        waits, not by the clock: `benchmarks/kernels.py` times each way there, the captured steps too.

        For the first two the host must know where the resets are: on a GPU it waits for the device, once.
        """
        self._refuse_trace(trace)
        if x.ndim != 3 or reset.shape != x.shape[:2]:
            shapes = f"x {list(x.shape)}, reset {list(reset.shape)}"
            raise ValueError(f"{shapes}: expected [T, B, D] and [T, B]")
        if backend == "auto":
            backend = "packed" if x.is_cuda else "stretches"
        if backend == "packed":
            return *self._packed(x, state, reset), None
        if backend == "stretches":
            return *self._stretches(x, state, reset), None
        if backend == "steps":
            return *self._steps(x, state, reset), None
        raise ValueError(f"backend = {backend!r}: an LSTM has 'auto', 'stretches', 'packed' and 'steps'")

    def _stretches(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        h, c = state
        starts = [0, *(t for t, any_reset in enumerate(reset.any(1).tolist()) if any_reset and t > 0)]
        outputs = []
        for start, stop in zip(starts, [*starts[1:], x.shape[0]], strict=True):
            h, c = zero_at(reset[start], h), zero_at(reset[start], c)
            output, (h, c) = self.lstm(x[start:stop], (h[None], c[None]))
            h, c = h[0], c[0]
            outputs.append(output)
        return torch.cat(outputs), (h, c)

    def _steps(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights = [self.lstm.get_parameter(name) for name in names]
        h, c = state
        outputs = []
        for x_t, reset_t in zip(x, reset, strict=True):
            h, c = torch.lstm_cell(x_t, (zero_at(reset_t, h), zero_at(reset_t, c)), *weights)
            outputs.append(h)
        return torch.stack(outputs), (h, c)

    def _packed(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        T, B, _ = x.shape
        pieces = _cut(reset.cpu())
        column, kept, order, position, last = (
            index.to(x.device, non_blocking=True)
            for index in (pieces.column, pieces.kept, pieces.order, pieces.position, pieces.last)
        )
        packed = PackedSequence(x.reshape(T * B, -1).index_select(0, order), pieces.batch_sizes)
        output, (h, c) = self.lstm(
            packed, tuple(zero_at(~kept, s.index_select(0, column))[None] for s in state)
        )
        h_all = output.data.index_select(0, position).view(T, B, -1)
        return h_all, (h[0].index_select(0, last), c[0].index_select(0, last))


class _Pieces(NamedTuple):
    """Columns of a chunk cut at their resets: R pieces, the longest first, as a packed sequence has them."""

    column: Tensor
    """[R] the batch column that a piece lies in."""
    kept: Tensor
    """[R] bool: the piece begins the chunk without a reset, and so carries the column's state on."""
    order: Tensor
    """[T * B] flat position t * B + b of each packed entry."""
    position: Tensor
    """[T * B] the packed entry of each flat position: the inverse of `order`."""
    last: Tensor
    """[B] the piece that ends each column."""
    batch_sizes: Tensor
    """[longest] pieces still running at each packed step."""


def _cut(reset: Tensor) -> _Pieces:
    """reset [T, B] bool on the CPU."""
    T, B = reset.shape
    starts = reset.clone()
    starts[0] = True
    column, start = starts.T.nonzero(as_tuple=True)  # column by column, each in the order of time
    length = torch.diff(column * T + start, append=torch.tensor([B * T]))
    by_length = torch.argsort(length, descending=True, stable=True)
    column, start, length = column[by_length], start[by_length], length[by_length]
    step = torch.arange(int(length[0]))[:, None]
    running = step < length
    order = ((start + step) * B + column)[running]
    position = torch.empty_like(order)
    position[order] = torch.arange(T * B)
    ends = (start + length == T).nonzero()[:, 0]
    last = torch.empty(B, dtype=torch.int64)
    last[column[ends]] = ends
    return _Pieces(column, (start == 0) & ~reset[0, column], order, position, last, running.sum(1))
