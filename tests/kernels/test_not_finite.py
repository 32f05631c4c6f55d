"""A number that is not finite ends where a reset, a mask or an end of the episode says so, in every backend.

0 * inf is NaN: whatever is to be forgotten must be selected away, not multiplied by 0.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kernels.cells import make_core
from kernels.elstm import BankedTrace, ELSTMTrace, elstm
from kernels.trace import advance_trace_
from kernels.vtrace import vtrace

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # without a GPU, Triton runs in its interpreter
BACKENDS = ["reference", "chunked", "triton"]
BAD = [math.inf, -math.inf, math.nan]


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("state", [1, 2])
@pytest.mark.parametrize(
    ("backend", "N"), [("reference", 6), ("chunked", 6), ("chunked", 2**17), ("triton", 6)]
)
def test_a_decay_of_zero_erases_a_trace_that_is_not_finite(
    backend: str, N: int, state: int, bad: float
) -> None:
    T, B, D, K = 3, 2, 9, 2
    lam, decay = _normal(B, 1, state, N, seed=0), _normal(B, state, state, N, seed=1)
    lam[1], decay[1] = 0, 0
    update, x = _normal(T, B, state, K, N, seed=2), _normal(T, B, D, seed=3)

    def run(value: float) -> tuple[Tensor, Tensor]:
        bank = _normal(3, K, state, N, D, seed=4)
        bank[2] = value
        boundary = advance_trace_(bank, torch.tensor([0, 2]), lam, decay, update, x, backend=backend)
        return boundary, bank

    for ours, theirs in zip(run(bad), run(0.0), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["gathered", "banked"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", BAD)
def test_a_reset_at_the_first_step_erases_state_and_trace(kind: str, backend: str, bad: float) -> None:
    if (kind, backend) == ("banked", "reference"):
        pytest.skip("the reference takes no bank")
    T, B, N, D = 4, 2, 5, 3
    reset = torch.zeros(T, B, dtype=torch.bool, device=DEVICE)
    reset[0, 1] = True

    def run(value: float) -> list[Tensor]:
        weights = [_normal(N, D, seed=0), _normal(N, D, seed=1), *(_normal(N, seed=2 + i) for i in range(4))]
        weights = [weight.requires_grad_() for weight in weights]
        x, c_0 = _normal(T, B, D, seed=6), _normal(B, N, seed=7)
        trace = ELSTMTrace(*(_normal(B, *w.shape, seed=8 + i) for i, w in enumerate(weights)))
        c_0[1] = value
        for tensor in trace:
            tensor[1] = value
        given = BankedTrace(trace.packed(), torch.arange(B)) if kind == "banked" else trace
        c_0.requires_grad_()
        c, advanced = elstm(x, *weights, c_0, reset, given, backend=backend)  # type: ignore[arg-type]
        gradients = torch.autograd.grad(c.square().sum(), [*weights, c_0])
        after = ELSTMTrace.named(advanced.gather(), D) if isinstance(advanced, BankedTrace) else advanced
        return [c.detach(), *gradients, *after]

    for ours, clean in zip(run(bad), run(0.0), strict=True):
        torch.testing.assert_close(ours, clean)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reset_within_the_chunk_ends_what_came_before_for_the_trace(backend: str) -> None:
    """The gradient of steps before the reset is beyond help; the trace after the chunk is not."""
    T, B, N, D = 5, 1, 4, 3
    weights = [_normal(N, D, seed=0), _normal(N, D, seed=1), *(_normal(N, seed=2 + i) for i in range(4))]
    x, c_0 = _normal(T, B, D, seed=6), _normal(B, N, seed=7)
    reset = torch.zeros(T, B, dtype=torch.bool, device=DEVICE)
    reset[2] = True

    def run(value: float) -> ELSTMTrace:
        trace = ELSTMTrace(*(torch.full((B, *w.shape), value, device=DEVICE) for w in weights))
        return elstm(x, *weights, c_0, reset, trace, backend=backend)[1]  # type: ignore[arg-type]

    for ours, clean in zip(run(math.inf), run(0.0), strict=True):
        torch.testing.assert_close(ours, clean)


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("elstm", "auto"),
        *((name, way) for name in ("lstm", "gru") for way in ("stretches", "packed", "steps")),
    ],
)
def test_a_reset_erases_a_state_that_is_not_finite(name: str, backend: str) -> None:
    core = make_core(name, 3, 4)  # type: ignore[arg-type]
    x, reset = torch.randn(4, 2, 3), torch.zeros(4, 2, dtype=torch.bool)
    reset[0, 1] = True
    clean = core.initial_state(2)
    bad = tuple(torch.full_like(tensor, math.inf) for tensor in clean)
    bad = tuple(torch.cat([good[:1], wrong[1:]]) for good, wrong in zip(clean, bad, strict=True))
    torch.testing.assert_close(core.step(x[0], bad, reset[0]), core.step(x[0], clean, reset[0]))
    ours, theirs = (core.unroll(x, state, reset, backend=backend) for state in (bad, clean))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize("clips", [(1.0, 1.0, 1.0), (None, None, None)])
def test_one_wild_ratio_leaves_vtrace_finite(backend: str, clips: tuple[float | None, ...]) -> None:
    T, B = 5, 3
    log_rhos = 0.1 * _normal(T, B, seed=0)
    log_rhos[2, 1] = 200.0
    rewards, values, next_values = (_normal(T, B, seed=i) for i in (1, 2, 3))
    discounts = torch.full((T, B), 0.9, device=DEVICE)
    go_on = torch.ones(T, B, dtype=torch.bool, device=DEVICE)
    result = vtrace(
        *(log_rhos, rewards, discounts, values, next_values, go_on),
        *clips,
        backend=backend,  # type: ignore[arg-type]
    )
    assert all(tensor.isfinite().all() for tensor in result)


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize("bad", BAD)
def test_a_terminal_state_is_worth_nothing_whatever_the_network_says(backend: str, bad: float) -> None:
    T, B = 4, 2
    log_rhos, rewards, values = (_normal(T, B, seed=i) for i in range(3))
    discounts = torch.full((T, B), 0.9, device=DEVICE)
    go_on = torch.ones(T, B, dtype=torch.bool, device=DEVICE)
    discounts[1, 0], go_on[1, 0] = 0, False

    def run(value: float) -> list[Tensor]:
        next_values = _normal(T, B, seed=3)
        next_values[1, 0] = value
        arguments = (log_rhos, rewards, discounts, values, next_values, go_on)
        return list(vtrace(*arguments, None, None, None, backend=backend))  # type: ignore[arg-type]

    for ours, clean in zip(run(bad), run(0.0), strict=True):
        torch.testing.assert_close(ours, clean)
