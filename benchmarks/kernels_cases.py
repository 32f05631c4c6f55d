"""The ways to compute a core gradient that `benchmarks.kernels` compares: inputs, correctness, counts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.cells.elstm.cell import CELL
from kernels.cells.torch_rnn import LSTM
from kernels.rtrl import BankedTrace, Trace, rtrl_scan

D = 257
"""Core input: 256 features and the clipped reward."""
BANK_BYTES = 2**28
"""Matrices of the bank, together, at least: more than any cache holds."""


class Way(NamedTuple):
    """A way to compute the gradient of a recurrent core over a chunk."""

    name: str
    cell: str
    """"elstm" or "lstm"."""
    backend: str
    trace: str
    """"none" (TBPTT), "gathered" or "banked"."""
    captured: bool = False
    """Replayed as a CUDA graph of forward and backward."""
    resets: bool = True
    """False, an anchor and no way to train: one call of torch's LSTM (cuDNN on a GPU), without resets."""


CPU_WAYS = [
    Way("TBPTT, torch", "elstm", "chunked", "none"),
    Way("RTRL, torch, gathered", "elstm", "chunked", "gathered"),
    Way("RTRL, torch, in place", "elstm", "chunked", "banked"),
    Way("RTRL, step by step, one pass", "elstm", "reference", "none"),  # the gradient, from a trace of zeros
    Way("RTRL, step by step", "elstm", "reference", "gathered"),  # and the trace handed on: a second pass
    Way("LSTM, TBPTT, stretches", "lstm", "stretches", "none"),
    Way("LSTM, TBPTT, packed", "lstm", "packed", "none"),
    Way("LSTM, TBPTT, steps", "lstm", "steps", "none"),
    Way("LSTM, without resets", "lstm", "stretches", "none", resets=False),
]
GPU_WAYS = [
    *CPU_WAYS,
    Way("TBPTT, triton", "elstm", "triton", "none"),
    Way("RTRL, triton, gathered", "elstm", "triton", "gathered"),
    Way("RTRL, triton, in place", "elstm", "triton", "banked"),
    Way("TBPTT, triton, graph", "elstm", "triton", "none", captured=True),
    Way("RTRL, triton, in place, graph", "elstm", "triton", "banked", captured=True),
    Way("LSTM, TBPTT, steps, graph", "lstm", "steps", "none", captured=True),
]


class Case:
    """Inputs of one size; `sets` sets of B rows in a bank, of which each call takes the next."""

    def __init__(self, T: int, B: int, N: int, device: str, dtype: torch.dtype, bank_bytes: int) -> None:
        g = torch.Generator().manual_seed(0)

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            return (scale * torch.randn(*shape, generator=g, dtype=torch.float64)).to(device, dtype)

        self.size = T, B, N
        weights = [normal(N, D, scale=0.1) for _ in range(2)] + [normal(N, scale=0.1) for _ in range(4)]
        self.inputs = [normal(T, B, D), *weights, normal(B, N)]
        for tensor in self.inputs:
            tensor.requires_grad_()
        self.reset = (torch.rand(T, B, generator=g) < 0.01).to(device)
        self.no_reset = torch.zeros_like(self.reset)
        self.e = normal(T, B, N)
        trace = Trace.zeros(CELL, B, N, D, device, dtype)
        trace.matrices[..., :D] = normal(B, 2, 1, N, D)
        trace.vectors.copy_(normal(B, 4, 1, N))
        self.sets = max(1, -(-bank_bytes // (trace.matrices.numel() * trace.matrices.element_size())))
        self.bank = trace.map(lambda s: s.repeat(self.sets, *(1,) * (s.ndim - 1)))
        self.lstm = LSTM(D, N)
        for parameter in self.lstm.parameters():
            parameter.data = normal(*parameter.shape, scale=N**-0.5)
        self.calls = 0
        self.graphs: dict[Way, tuple[torch.cuda.CUDAGraph, list[Tensor]]] = {}
        self.graph_rows = torch.arange(B, device=device)

    def next_rows(self) -> Tensor:
        rows = torch.arange(self.size[1]) + self.size[1] * (self.calls % self.sets)
        self.calls += 1
        return rows

    def run(self, way: Way) -> list[Tensor]:
        """States, every gradient, and the trace after the chunk, if there is one."""
        rows = self.next_rows()
        here = slice(int(rows[0]), int(rows[-1]) + 1)
        if way.captured:
            if way not in self.graphs:
                self.graphs[way] = self._capture(way)
            self.graph_rows.copy_(rows, non_blocking=True)
            graph, outputs = self.graphs[way]
            graph.replay()
        else:
            trace = self.bank.map(lambda s: s[here]) if way.trace == "gathered" else None
            outputs = self._solve(way, BankedTrace(self.bank, rows) if way.trace == "banked" else trace)
        return [*outputs, *(self.bank.map(lambda s: s[here]) if way.trace == "banked" else ())]

    def _solve(self, way: Way, trace: Trace | BankedTrace | None) -> list[Tensor]:
        """States, every gradient, and the next trace where it is a new one."""
        x, c_0 = self.inputs[0], self.inputs[-1]
        if way.cell == "lstm":
            reset = self.reset if way.resets else self.no_reset
            h, _, _ = self.lstm.unroll(x, (torch.zeros_like(c_0), c_0), reset, backend=way.backend)
            return [h.detach(), *torch.autograd.grad(h, [x, c_0, *self.lstm.parameters()], self.e)]
        weights, vectors = self.inputs[1:3], self.inputs[3:7]
        h, advanced = rtrl_scan(CELL, x, weights, vectors, c_0[:, None], self.reset, trace, way.backend)
        gradients = torch.autograd.grad(h, self.inputs, self.e[:, :, None])
        return [h.detach(), *gradients, *(advanced if isinstance(advanced, Trace) else ())]

    def _capture(self, way: Way) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
        """A graph over the rows that `graph_rows` names at each replay. The bank is left as it was."""

        def ticket() -> BankedTrace | None:
            return BankedTrace(self.bank, self.graph_rows) if way.trace == "banked" else None

        first = slice(0, self.size[1])
        self.graph_rows.copy_(torch.arange(self.size[1]))
        before = self.bank.map(lambda s: s[first].clone())
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compiles the kernels and takes what capture may not allocate
            for _ in range(3):
                self._solve(way, ticket())
        torch.cuda.current_stream().wait_stream(stream)
        for s, value in zip(self.bank, before, strict=True):
            s[first] = value
        graph, trace = torch.cuda.CUDAGraph(), ticket()
        with torch.cuda.graph(graph):
            outputs = self._solve(way, trace)
        return graph, outputs


def error(values: list[Tensor], truth: list[Tensor]) -> float:
    """The largest relative error of a tensor, in norm."""
    pairs = zip(values, truth, strict=True)
    return max(((v.double() - t).norm() / t.norm().clamp(min=1e-30)).item() for v, t in pairs)


def check(ways: list[Way], T: int, N: int, device: str) -> dict[str, float]:
    """Error of each way against float64, with two batch columns, by name.

    SystemExit unless each is at most twice as far off as plain torch at the same precision.
    """
    errors = {}
    for way in ways:
        oracle = {"lstm": "stretches", "elstm": "reference"}[way.cell]
        oracle_way = way._replace(
            backend=oracle, trace=way.trace.replace("banked", "gathered"), captured=False
        )
        plain_way = oracle_way._replace(backend="chunked") if way.backend == "triton" else oracle_way
        truth = Case(T, 2, N, device, torch.float64, 0).run(oracle_way)
        plain = error(Case(T, 2, N, device, torch.float32, 0).run(plain_way), truth)
        errors[way.name] = error(Case(T, 2, N, device, torch.float32, 0).run(way), truth)
        # tf32 rounds the factors of every product to 11 bits; the step-by-step loop has few products.
        tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"
        bound = 2 * plain + (2e-3 if tf32 and plain_way.backend == "reference" else 1e-6)
        if not errors[way.name] <= bound:
            raise SystemExit(
                f"WRONG at T = {T}, N = {N}: {way.name} is off by {errors[way.name]:.1e}, and {bound:.1e} is "
                "allowed, so no speed is reported"
            )
    return errors


def count(way: Way, T: int, B: int, N: int) -> tuple[float, float]:
    """FLOPs, and bytes that must move if each use of a tensor reads or writes it once; float32.

    Of the scans only the bytes are counted, and of the weights only those that meet whole batches.
    """
    states, inputs, weights, trace = T * B * N, T * B * D, 2 * N * D, 2 * B * N * D
    product = 2.0 * T * B * weights
    if way.cell == "lstm":  # four gates of D + N inputs; state, gates and their gradients
        return 3 * 2.0 * T * B * 4 * N * (D + N), 4.0 * (3 * 4 * N * (D + N) + 4 * inputs + 14 * states)
    if way.backend == "reference":  # outer product and decay, and the gradient's product, at every step
        passes = 1 if way.trace == "none" else 2
        return 2 * product + (2.0 + 4.0 * passes) * T * trace, 4.0 * T * (1 + 3 * passes) * trace
    # u written and read; local derivatives, a and c likewise; e read; d written and read by two products
    states_moved = 4 + 4 + 2 + 3 + 1 + 6
    moved = states_moved * states + 4 * inputs + 3 * weights  # x for two products, dx; W twice, dW
    if way.trace == "none":
        return 3 * product, 4.0 * moved
    moved += 4 * states + inputs  # suffix products written and read, x once more
    moved += (2 if way.trace == "banked" else 3) * trace
    return 4 * product + 4.0 * trace, 4.0 * moved
