"""torch's LSTM and GRU with resets inside the unroll, trained by TBPTT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from kernels.cells.core import Core, State, zero_at
from kernels.cells.forget import ForgetBias, forget_biases


class TorchRNN(Core):
    """State: h [B, N] of each layer, lowest first; of an LSTM, then c of each layer. Weights, names and start
    values of torch's module, with `forget_bias` added to the bias of the gate that keeps, in each layer."""

    kind: type[nn.LSTM] | type[nn.GRU]
    name: str
    """Of the module here, and so of the weights."""
    states: int
    """Tensors of state a layer."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, forget_bias: ForgetBias = 0.0
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.add_module(self.name, self.kind(input_size, hidden_size, num_layers))
        with torch.no_grad():
            for layer in range(num_layers):
                bias = self.rnn.get_parameter(f"bias_ih_l{layer}")
                kept = bias[hidden_size : 2 * hidden_size]  # the second gate, of both
                kept += forget_biases(forget_bias, hidden_size)

    @property
    def rnn(self) -> Any:
        return self.get_submodule(self.name)

    def call(self, x: Tensor | PackedSequence, state: Tensor) -> tuple[Any, Tensor]:
        """One call of `rnn`, which knows no resets, from state [states, layers, B, N]."""
        raise NotImplementedError

    def cell(self, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]) -> Sequence[Tensor]:
        """One step of one layer, from its `states` tensors [B, N]; h comes first."""
        raise NotImplementedError

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        weight = self.rnn.get_parameter("weight_hh_l0")
        count = self.states * self.rnn.num_layers
        return tuple(weight.new_zeros(count, batch, self.output_size, device=device).unbind(0))

    def recurrent_parameters(self) -> list[nn.Parameter]:
        return list(self.rnn.parameters())

    def step(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        h, following = self.call(x[None], zero_at(reset, self._joined(state)))
        return h[0], _parted(following)

    def unroll(
        self, x: Tensor, state: State, reset: Tensor, trace: Any = None, backend: str = "auto"
    ) -> tuple[Tensor, State, Any]:
        """backend: how torch's module, which knows no resets, is called.

        "stretches": once for each stretch of steps in which no column is reset. Fastest on a CPU, where a
        call costs little and packing gathers and scatters. On a GPU it is a Python loop over the stretches,
        of which a wide batch has nearly as many as steps.
        "packed": once in all. Every column is cut at its resets, and the pieces are one packed batch of
        sequences of unequal length. There is no Python loop over T or over the resets: the number of calls
        and of launches outside torch's module is the same for any T and any resets (tests/kernels/
        test_host_waits.py). The one wait is for `reset` to reach the host.
        "steps": a cell call a step and layer, states masked before each. Asks the host nothing, so that a
        CUDA graph can capture it, which makes its small launches cheap to repeat; without a graph the
        slowest.
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
        name = type(self).__name__
        raise ValueError(f"backend = {backend!r}: {name} has 'auto', 'stretches', 'packed' and 'steps'")

    def _joined(self, state: State) -> Tensor:
        return torch.stack(state).unflatten(0, (self.states, -1))

    def _stretches(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        joined = self._joined(state)
        starts = [0, *(t for t, any_reset in enumerate(reset.any(1).tolist()) if any_reset and t > 0)]
        outputs = []
        for start, stop in zip(starts, [*starts[1:], x.shape[0]], strict=True):
            output, joined = self.call(x[start:stop], zero_at(reset[start], joined))
            outputs.append(output)
        return torch.cat(outputs), _parted(joined)

    def _steps(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        count = self.rnn.num_layers
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [[self.rnn.get_parameter(f"{name}_l{i}") for name in names] for i in range(count)]
        layers: list[Sequence[Tensor]] = [state[i::count] for i in range(count)]
        outputs = []
        for x_t, reset_t in zip(x, reset, strict=True):
            h = x_t
            for i, layer in enumerate(layers):
                layers[i] = self.cell(h, [zero_at(reset_t, s) for s in layer], weights[i])
                h = layers[i][0]
            outputs.append(h)
        return torch.stack(outputs), tuple(layer[s] for s in range(self.states) for layer in layers)

    def _packed(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        T, B, _ = x.shape
        pieces = _cut(reset.cpu())
        column, kept, order, position, last = (
            index.to(x.device, non_blocking=True)
            for index in (pieces.column, pieces.kept, pieces.order, pieces.position, pieces.last)
        )
        packed = PackedSequence(x.reshape(T * B, -1).index_select(0, order), pieces.batch_sizes)
        begun = zero_at(~kept, self._joined(state).index_select(2, column))
        output, ended = self.call(packed, begun)
        h = output.data.index_select(0, position).view(T, B, -1)
        return h, _parted(ended.index_select(2, last))


class LSTM(TorchRNN):
    """Gates: input, forget, cell, output."""

    kind, name, states = nn.LSTM, "lstm", 2

    def call(self, x: Tensor | PackedSequence, state: Tensor) -> tuple[Any, Tensor]:
        output, after = self.rnn(x, (state[0], state[1]))
        return output, torch.stack(after)

    def cell(self, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]) -> Sequence[Tensor]:
        return torch.lstm_cell(x, tuple(state), *weights)


class GRU(TorchRNN):
    """Gates: reset, update, new. The update gate z keeps: h = (1 - z) n + z h, in torch's form."""

    kind, name, states = nn.GRU, "gru", 1

    def call(self, x: Tensor | PackedSequence, state: Tensor) -> tuple[Any, Tensor]:
        output, after = self.rnn(x, state[0])
        return output, after[None]

    def cell(self, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]) -> Sequence[Tensor]:
        return (torch.gru_cell(x, state[0], *weights),)


def _parted(state: Tensor) -> State:
    """[states, layers, B, N] as `State` has it."""
    return tuple(state.flatten(0, 1).unbind(0))


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
