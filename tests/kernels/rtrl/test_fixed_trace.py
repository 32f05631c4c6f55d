"""A FixedTrace gives what the Trace in it gives, but for the trace after the chunk."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.rtrl import FixedTrace, Trace, ops, rtrl_scan
from tests.kernels.rtrl.certificate import OURS, Case, make_case


def _random_trace(case: Case) -> Trace:
    g = torch.Generator().manual_seed(4)
    _, B, D = case.x.shape
    zeros = Trace.zeros(case.cell, B, case.h_0.shape[2], D, dtype=torch.float64)
    matrices, vectors = (torch.randn(s.shape, generator=g, dtype=torch.float64) for s in zeros)
    matrices[..., D:] = 0.0
    return Trace(matrices, vectors)


def _results(case: Case, trace: Any, backend: str) -> tuple[list[Tensor], Any]:
    parameters = [p.clone().requires_grad_() for p in case.parameters]
    x, h_0 = case.x.clone().requires_grad_(), case.h_0.clone().requires_grad_()
    K = len(case.W)
    h, after = rtrl_scan(case.cell, x, parameters[:K], parameters[K:], h_0, case.reset, trace, backend)
    return [h, *torch.autograd.grad((case.e * h).sum(), [*parameters, x, h_0])], after


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("name", OURS)
def test_states_and_gradients_are_those_of_the_trace_and_nothing_is_advanced(
    name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(name, [5], seed=2)
    trace = _random_trace(case)
    kept = trace.map(torch.clone)
    expected, after = _results(case, trace, backend)
    assert not torch.equal(after.matrices, trace.matrices)
    monkeypatch.setattr(ops, "rtrl_advance", None)  # a call would fail
    fixed = FixedTrace(trace)
    ours, same = _results(case, fixed, backend)
    assert same is fixed
    for mine, theirs in zip([*ours, *trace], [*expected, *kept], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_without_it_the_boundary_term_is_missing() -> None:
    case = make_case("elstm", [5], seed=2)
    case = dataclasses.replace(case, reset=torch.zeros_like(case.reset))
    with_trace, _ = _results(case, FixedTrace(_random_trace(case)), "chunked")
    without, _ = _results(case, None, "chunked")
    assert not torch.allclose(with_trace[1], without[1])


def test_a_trace_of_another_size_is_refused_by_name() -> None:
    case = make_case("elstm", [5], seed=2)
    wrong = FixedTrace(Trace.zeros(case.cell, 1, case.h_0.shape[2], case.x.shape[2], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"trace.matrices has shape \[1, "):
        _results(case, wrong, "chunked")
