"""The torch.library ops: schemas, fake tensors, autograd registration, and torch.compile over them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.elstm import BankedTrace, ELSTMTrace, elstm, ops
from kernels.vtrace import vtrace
from kernels.vtrace.ops import vtrace_op

ALL_CHECKS = {"test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"}


def check(op, *arguments) -> None:
    results = torch.library.opcheck(op, arguments)
    assert set(results) == ALL_CHECKS and set(results.values()) == {"SUCCESS"}


def stacked(problem) -> list[Tensor]:
    """x, W, w, b, c_0, reset, as the ops take them."""
    W_z, W_f, w_z, w_f, b_z, b_f = (weight.detach() for weight in problem.weights)
    weights = [torch.stack(pair).requires_grad_() for pair in ((W_z, W_f), (w_z, w_f), (b_z, b_f))]
    return [problem.x, *weights, problem.c_0, problem.reset]


@pytest.mark.parametrize("traced", [False, True])
def test_forward(make_problem, traced):
    problem = make_problem(5, 3, 4, 6)
    trace = list(problem.trace) if traced else []
    check(ops.elstm_forward, *stacked(problem), trace, None, True, "chunked")


@pytest.mark.parametrize("need_x", [False, True])
def test_backward_and_advance(make_problem, need_x):
    problem = make_problem(5, 3, 4, 6)
    x, W, w, b, c_0, reset = (tensor.detach() for tensor in stacked(problem))
    c, local, a = ops.elstm_forward(x, W, w, b, c_0, reset, [], None, True, "chunked")
    saved, trace = (c, c_0, reset, local, a), list(problem.trace)
    check(ops.elstm_backward, problem.e, x, W, *saved, [], need_x, "chunked")
    check(ops.elstm_backward, problem.e, x, W, *saved, trace, need_x, "chunked")
    check(ops.elstm_advance, x, *saved, trace, "chunked")
    rows = torch.tensor([2, 0, 1])
    check(ops.elstm_backward_, problem.e, x, W, *saved, trace, rows, need_x, "chunked")


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
        bank = problem.trace.map(torch.clone)
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
