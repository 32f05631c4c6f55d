"""The torch.library ops: schemas, fake tensors, autograd registration, and torch.compile over them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.elstm import BankedTrace, ELSTMTrace, elstm
from kernels.rtrl import ops
from kernels.trace import _advance
from kernels.vtrace import vtrace
from kernels.vtrace.ops import vtrace_op

ALL_CHECKS = {"test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"}


def check(op, *arguments) -> None:
    results = torch.library.opcheck(op, arguments)
    assert set(results) == ALL_CHECKS and set(results.values()) == {"SUCCESS"}


def stacked(problem) -> list[Tensor]:
    """x, W, psi, h_0, reset, as the ops take them."""
    weights = [weight.detach() for weight in problem.weights]
    W, psi = torch.stack(weights[:2]).requires_grad_(), torch.stack(weights[2:]).requires_grad_()
    return [problem.x, W, psi, problem.c_0.detach()[:, None].requires_grad_(), problem.reset]


@pytest.mark.parametrize("traced", [False, True])
def test_forward(make_problem, traced):
    problem = make_problem(5, 3, 4, 6)
    trace = list(problem.trace.packed()) if traced else []
    check(ops.rtrl_forward, *stacked(problem), trace, None, True, "elstm", "chunked")


@pytest.mark.parametrize("need_x", [False, True])
def test_backward_and_advance(make_problem, need_x):
    problem = make_problem(5, 3, 4, 6)
    x, W, psi, h_0, reset = (tensor.detach() for tensor in stacked(problem))
    h, u, extra = ops.rtrl_forward(x, W, psi, h_0, reset, [], None, True, "elstm", "chunked")
    saved, trace, e = (psi, h, h_0, reset, u, extra), list(problem.trace.packed()), problem.e[:, :, None]
    names = "elstm", "chunked"
    check(ops.rtrl_backward, e, x, W, *saved, [], need_x, *names)
    check(ops.rtrl_backward, e, x, W, *saved, trace, need_x, *names)
    check(ops.rtrl_advance, x, *saved, trace, *names)
    rows = torch.tensor([2, 0, 1])
    check(ops.rtrl_backward_, e, x, W, *saved, trace, rows, need_x, *names)


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_the_trace_alone(turns):
    lam = torch.randn(2, turns, 2, 4) if turns else None
    decay, update, x = torch.randn(2, 2, 2, 4), torch.randn(3, 2, 2, 1, 4), torch.randn(3, 2, 5)
    matrices, rows = torch.randn(3, 1, 2, 4, 16), torch.tensor([2, 0])
    check(_advance, matrices, rows, lam, decay, update, x, "chunked", "ieee")


def test_vtrace():
    inputs = [torch.randn(4, 3) for _ in range(5)]
    check(vtrace_op, *inputs, torch.rand(4, 3) > 0.2, 1.0, None, 0.5, 0.9, "reference")


@pytest.mark.parametrize("traced", [False, True])
def test_torch_compile_of_one_whole_graph_gives_the_same_numbers(make_problem, traced):
    problem = make_problem(5, 3, 4, 6)
    trace = problem.trace if traced else None

    def chunk(x: Tensor, weights: list[Tensor], c_0: Tensor) -> tuple[Tensor, ELSTMTrace | None]:
        return elstm(x, *weights, c_0, problem.reset, trace, "chunked")

    def solve(function) -> list[Tensor]:
        c, advanced = function(problem.x, problem.weights, problem.c_0)
        gradients = torch.autograd.grad(problem.loss(c), problem.differentiable)
        return [c, *gradients, *(advanced or ())]

    compiled = torch.compile(chunk, backend="aot_eager", fullgraph=True)
    for ours, truth in zip(solve(compiled), solve(chunk), strict=True):
        torch.testing.assert_close(ours, truth, rtol=0, atol=0)


def test_torch_compile_over_a_bank_gives_the_same_numbers(make_problem):
    problem = make_problem(5, 3, 4, 6)

    def chunk(x: Tensor, weights: list[Tensor], c_0: Tensor, trace: BankedTrace) -> Tensor:
        return elstm(x, *weights, c_0, problem.reset, trace, "chunked")[0]

    results = []
    for function in (chunk, torch.compile(chunk, backend="aot_eager", fullgraph=True)):
        bank = problem.trace.packed()
        c = function(problem.x, problem.weights, problem.c_0, BankedTrace(bank, torch.tensor([2, 0, 1])))
        results.append([c, *torch.autograd.grad(problem.loss(c), problem.differentiable), *bank])
    for ours, truth in zip(*results, strict=True):
        torch.testing.assert_close(ours, truth, rtol=0, atol=0)


def test_torch_compile_of_vtrace_gives_the_same_numbers():
    inputs = [torch.randn(6, 3) for _ in range(5)]
    continues = torch.rand(6, 3) > 0.2
    compiled = torch.compile(vtrace, backend="aot_eager", fullgraph=True)
    for ours, truth in zip(compiled(*inputs, continues), vtrace(*inputs, continues), strict=True):
        torch.testing.assert_close(ours, truth, rtol=0, atol=0)
