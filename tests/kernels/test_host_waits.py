"""Who waits for the GPU: the Triton path never does, a packed LSTM or GRU once.

Without a GPU the code around the Triton launches runs on meta tensors, which have shapes and no numbers:
whatever asks for a number, as a host that waits does, is an error. The launches are noted, not run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kernels.cells.torch_rnn import GRU, LSTM, _cut
from kernels.rtrl import triton as rtrl_triton
from kernels.rtrl.cell import CELLS
from kernels.rtrl.trace import Trace
from kernels.trace import triton as trace_triton
from kernels.vtrace import triton as vtrace_triton

B, N, D = 3, 20, 7
LAUNCHES: list[str] = []


class Launcher:
    """Stands for a kernel: kernel[grid](...) notes its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        assert all(isinstance(size, int) and size > 0 for size in grid)
        return lambda *arguments, **constants: LAUNCHES.append(self.name)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels launched. They do not run."""
    LAUNCHES.clear()
    for module in (rtrl_triton, trace_triton, vtrace_triton):
        for name in vars(module).copy():
            if name.endswith("_kernel"):
                monkeypatch.setattr(module, name, Launcher(name))
    return LAUNCHES


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def chunk(name: str, T: int, rows: int | None) -> list[Tensor]:
    """Forward, backward, and without `rows` the advance of gathered traces."""
    cell = CELLS[name]
    x, h_0, reset = meta(T, B, D), meta(B, cell.d, N), meta(T, B, dtype=torch.bool)
    W, psi = meta(len(cell.gates), N, D), meta(len(cell.vectors), N)
    h, u, extra = rtrl_triton.forward(cell, x, W, psi, h_0, reset, True)
    trace = list(Trace.zeros(cell, B if rows is None else rows, N, D, "meta"))
    which = None if rows is None else meta(B, dtype=torch.int64)
    saved = psi, h, h_0, reset, u, extra
    gradients = rtrl_triton.backward(cell, torch.empty_like(h), x, W, *saved, trace, which, True)
    if rows is None:
        rtrl_triton.advance(cell, x, *saved, trace)
    return [h, *gradients]


@pytest.mark.parametrize("rows", [None, 9])
@pytest.mark.parametrize("name", ["elstm", "indylstm", "rtu_relu/exp_exp/exp", "lru"])
def test_a_chunk_asks_the_gpu_nothing_and_launches_as_much_at_any_length(noted, name, rows):
    launched = []
    for T in (1, 5, 100):
        noted.clear()
        assert all(tensor.is_meta for tensor in chunk(name, T, rows))
        launched.append(noted.copy())
    scans = ["forward_scan_kernel", "reverse_scan_kernel"]
    again = [] if rows is not None else ["reverse_scan_kernel"]
    assert launched == [[*scans, *again, "advance_trace_kernel"]] * 3


def test_vtrace_asks_the_gpu_nothing_and_is_one_launch(noted):
    inputs = [meta(100, B) for _ in range(5)]
    continues = meta(100, B, dtype=torch.bool)
    vtrace_triton.vtrace_triton(*inputs, continues, 1.0, None, 1.0, 0.9)
    assert noted == ["vtrace_kernel"]


@pytest.mark.parametrize("question", [Tensor.item, Tensor.tolist, Tensor.cpu, bool])
def test_a_question_to_a_tensor_without_numbers_is_an_error(question):
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        question(meta(1))


class CountCalls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


def test_cutting_a_chunk_at_its_resets_takes_as_many_calls_at_any_length_and_with_any_resets():
    counts = set()
    for T, share in ((2, 0.0), (10, 0.2), (200, 0.0), (200, 0.5), (200, 1.0)):
        reset = torch.rand(T, 4) < share
        with CountCalls() as counter:
            _cut(reset)
        counts.add(counter.calls)
    assert len(counts) == 1 and counts.pop() > 10


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_stepping_torchs_cells_asks_the_gpu_nothing_and_the_other_ways_where_the_resets_are(kind):
    core = kind(D, N).to("meta")
    arguments = meta(5, B, D), core.initial_state(B), meta(5, B, dtype=torch.bool)
    h, _, _ = core.unroll(*arguments, backend="steps")
    assert h.is_meta and h.shape == (5, B, N)
    for backend in ("packed", "stretches"):
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            core.unroll(*arguments, backend=backend)


@pytest.mark.gpu
@pytest.mark.parametrize(("T", "share"), [(5, 0.3), (100, 0.0), (100, 0.05)])
@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_a_packed_module_of_torch_waits_for_the_gpu_once(kind, T, share):
    core = kind(D, N).cuda()
    x = torch.randn(T, B, D, device="cuda", requires_grad=True)
    reset, state = (torch.rand(T, B) < share).cuda(), core.initial_state(B)

    def solve() -> None:
        h, _, _ = core.unroll(x, state, reset, backend="packed")
        torch.autograd.grad(h.sum(), [x, *core.parameters()])

    solve()  # what cuDNN sets up on its first call does not count
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            solve()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(w.message) for w in caught if "synchronizing" in str(w.message)]
    assert len(waits) == 1, waits
