"""Exactness as a property: over any chunks, shapes, resets and losses, with the weights frozen, the gradients
of the chunks from carried traces add up to backpropagation through the whole joined stream, in float64.

The truth is a cell of this file's own, stepped in Python and left to autograd: none of the kernels is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.elstm import Backend, BankedTrace, ELSTMTrace, elstm

WAYS = [("reference", "gathered"), ("chunked", "gathered"), ("chunked", "banked")]
EXACT = 1e-12
"""Largest error of an entry, in units of the largest entry of the whole gradient (seen: below 5e-15)."""


@dataclass(frozen=True)
class Stream:
    """B streams, cut into chunks of `lengths` steps; everything float64."""

    lengths: list[int]
    x: Tensor
    weights: list[Tensor]
    c_0: Tensor
    reset: Tensor
    seed: int

    @property
    def chunks(self) -> list[slice]:
        ends = torch.tensor(self.lengths).cumsum(0).tolist()
        return [slice(end - length, end) for end, length in zip(ends, self.lengths, strict=True)]

    def loss(self, c: Tensor, t: int) -> Tensor:
        """Of the state [B, N] after step t alone: a form and coefficients drawn for that step."""
        g = torch.Generator().manual_seed(1000 * self.seed + t)
        weight = torch.randn(c.shape, generator=g, dtype=c.dtype)
        forms: list[Callable[[Tensor], Tensor]] = [
            lambda s: (weight * s).sum(),
            lambda s: (weight * s).sum().sin(),  # couples streams and units, as a head and a softmax do
            lambda s: (weight * s**3).sum(),
            lambda s: 0.0 * s.sum(),  # a step without loss
        ]
        return forms[int(torch.randint(len(forms), (), generator=g))](c)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    count, resets = draw(st.integers(1, 10)), draw(st.integers(0, 12))
    lengths = draw(st.lists(st.integers(1, 6), min_size=count, max_size=count))
    B, N, D = draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    seed, scale = draw(st.integers(0, 10**6)), draw(st.sampled_from([0.1, 0.5, 1.0]))
    T = sum(lengths)
    steps, columns = st.integers(0, T - 1), st.integers(0, B - 1)
    ends = draw(st.lists(st.tuples(steps, columns), min_size=resets, max_size=resets))
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float = 1.0) -> Tensor:
        return std * torch.randn(*shape, generator=g, dtype=torch.float64)

    weights = [normal(N, D, std=scale), normal(N, D, std=scale), *(normal(N, std=scale) for _ in range(4))]
    weights[5] += draw(st.sampled_from([0.0, 2.0]))  # a forget bias: the past reaches over many chunks
    reset = torch.zeros(T, B, dtype=torch.bool)
    for t, column in ends:
        reset[t, column] = True
    return Stream(lengths, normal(T, B, D), weights, normal(B, N), reset, seed)


def through_time(stream: Stream) -> list[Tensor]:
    """Gradients of the six weights by backpropagation through every step of the joined stream."""
    weights = [w.clone().requires_grad_() for w in stream.weights]
    W_z, W_f, w_z, w_f, b_z, b_f = weights
    c, total = stream.c_0, torch.zeros((), dtype=torch.float64)
    for t, x in enumerate(stream.x):
        c = c.masked_fill(stream.reset[t].unsqueeze(1), 0.0)
        z = torch.tanh(torch.einsum("bd,nd->bn", x, W_z) + c * w_z + b_z)
        f = torch.sigmoid(torch.einsum("bd,nd->bn", x, W_f) + c * w_f + b_f)
        c = z + f * (c - z)
        total = total + stream.loss(c, t)
    return list(torch.autograd.grad(total, weights))


Kept = Literal["whole", "cut", "through resets"]


class Carried:
    """The traces between chunks, gathered or as rows of a bank that is larger than the batch."""

    def __init__(self, stream: Stream, where: str) -> None:
        (B, N), D = stream.c_0.shape, stream.x.shape[2]
        self._banked = where == "banked"
        rows = B + 2 if self._banked else B
        self._trace = ELSTMTrace.zeros(rows, N, D, dtype=torch.float64)
        self._bank = self._trace.packed()
        self._row_of_stream = torch.randperm(rows, generator=torch.Generator().manual_seed(stream.seed))[:B]
        for tensor in self._bank if self._banked else ():
            others = [row for row in range(rows) if row not in self._row_of_stream.tolist()]
            tensor[others] = float("nan")  # rows of other streams must not leak in

    def take(self, order: Tensor) -> ELSTMTrace | BankedTrace:
        """The traces of the streams in this order."""
        if self._banked:
            return BankedTrace(self._bank, self._row_of_stream[order])
        return self._trace.map(lambda s: s[order])

    def give_back(self, order: Tensor, trace: ELSTMTrace | BankedTrace | None) -> None:
        assert trace is not None
        if isinstance(trace, ELSTMTrace):
            back = torch.argsort(order)
            self._trace = trace.map(lambda s: s[back])


def chunk_by_chunk(stream: Stream, backend: Backend, where: str, kept: Kept = "whole") -> list[Tensor]:
    """The sum over chunks of each chunk's own gradient. Every chunk has its streams in an order of its own.

    kept: what becomes of the traces at a seam. "cut" drops them, which is TBPTT; "through resets" zeroes the
    state at a reset on a chunk's first step and lets the trace live on. Both are wrong on purpose.
    """
    weights = [w.clone().requires_grad_() for w in stream.weights]
    total = [torch.zeros_like(w) for w in weights]
    carried, state = Carried(stream, where), stream.c_0
    g = torch.Generator().manual_seed(stream.seed)
    for chunk in stream.chunks:
        order = torch.randperm(len(state), generator=g)
        trace = None if kept == "cut" else carried.take(order)
        reset, c_0 = stream.reset[chunk].clone(), state
        if kept == "through resets":
            c_0 = state.masked_fill(reset[0].unsqueeze(1), 0.0)
            reset[0] = False
        c, trace = elstm(
            stream.x[chunk][:, order], *weights, c_0[order], reset[:, order], trace, backend=backend
        )
        in_place = c[:, torch.argsort(order)]
        loss = torch.stack([stream.loss(in_place[i], chunk.start + i) for i in range(len(c))]).sum()
        for mine, gradient in zip(total, torch.autograd.grad(loss, weights), strict=True):
            mine += gradient
        if kept != "cut":
            carried.give_back(order, trace)
        state = in_place[-1].detach()
    return total


def error(ours: list[Tensor], truth: list[Tensor]) -> float:
    scale = max(float(g.abs().max()) for g in truth)
    worst = max(float((a - b).abs().max()) for a, b in zip(ours, truth, strict=True))
    return worst / scale if scale > 0.0 else worst


@pytest.mark.parametrize(("backend", "where"), WAYS)
@given(stream=streams())
@settings(max_examples=60, derandomize=True, deadline=None)
def test_carried_traces_add_up_to_the_gradient_through_the_whole_stream(
    backend: Backend, where: str, stream: Stream
) -> None:
    assert error(chunk_by_chunk(stream, backend, where), through_time(stream)) < EXACT


def _with_a_reset_at_a_seam() -> Stream:
    g = torch.Generator().manual_seed(5)
    weights = [0.5 * torch.randn(4, 3, generator=g, dtype=torch.float64) for _ in range(2)]
    weights += [0.5 * torch.randn(4, generator=g, dtype=torch.float64) for _ in range(4)]
    weights[5] += 2.0
    x = torch.randn(12, 2, 3, generator=g, dtype=torch.float64)
    reset = torch.zeros(12, 2, dtype=torch.bool)
    reset[8, 0] = True
    c_0 = torch.randn(2, 4, generator=g, dtype=torch.float64)
    return Stream([4, 4, 4], x, weights, c_0, reset, seed=5)


@pytest.mark.parametrize(("backend", "where"), WAYS)
def test_a_trace_that_lives_through_a_reset_is_found(backend: Backend, where: str) -> None:
    stream = _with_a_reset_at_a_seam()
    truth = through_time(stream)
    assert error(chunk_by_chunk(stream, backend, where), truth) < EXACT
    assert error(chunk_by_chunk(stream, backend, where, "through resets"), truth) > 1e-3


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_without_traces_the_same_comparison_fails(backend: Backend) -> None:
    stream = _with_a_reset_at_a_seam()
    assert error(chunk_by_chunk(stream, backend, "gathered", "cut"), through_time(stream)) > 1e-2
