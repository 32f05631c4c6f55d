"""The Triton backends against the references: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from kernels.elstm import BankedTrace, ELSTMTrace, elstm
from kernels.vtrace import vtrace
from tests.kernels.precision import advance_error

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GRADIENTS = ("x", "W_z", "W_f", "w_z", "w_f", "b_z", "b_f", "c_0")
ROUNDING = 3e-7  # a few float32 roundings: room where the plain result happens to be nearly exact


def solve(problem, backend, credit) -> dict[str, Tensor]:
    """States, trace after the chunk and every gradient. credit: "tbptt", "gathered" or "banked"."""
    device, B = problem.x.device, problem.x.shape[1]
    trace = None
    if credit == "gathered":
        trace = problem.trace
    elif credit == "banked":
        rows = torch.randperm(B + 3, generator=torch.Generator().manual_seed(B))[:B]
        mine = problem.trace.packed()
        bank = mine.map(lambda s: torch.full((B + 3, *s.shape[1:]), math.nan, device=device).to(s))
        for s_bank, s in zip(bank, mine, strict=True):
            s_bank[rows] = s
        trace = BankedTrace(bank, rows)
    c, advanced = elstm(problem.x, *problem.weights, problem.c_0, problem.reset, trace, backend)
    gradients = torch.autograd.grad(problem.loss(c), problem.differentiable)
    if isinstance(advanced, BankedTrace):
        others = [row for row in range(B + 3) if row not in advanced.rows.tolist()]
        assert all(s[others].isnan().all() for s in advanced.bank)
        advanced = ELSTMTrace.named(advanced.gather(), problem.x.shape[2])
    results = {"c": c.detach(), **dict(zip(GRADIENTS, gradients, strict=True))}
    if advanced is not None:
        results |= {f"trace.{name}": s for name, s in advanced._asdict().items()}
    return results


def error(value: Tensor, truth: Tensor) -> float:
    return ((value.cpu().double() - truth).norm() / truth.norm().clamp(min=1e-30)).item()


@pytest.mark.parametrize("credit", ["tbptt", "gathered", "banked"])
@pytest.mark.parametrize(
    ("T", "B", "N", "D"),
    [(1, 3, 130, 65), (33, 2, 65, 65), (100, 1, 20, 3), (7, 9, 70, 33), (2, 1, 500, 1)],
)
def test_is_at_most_twice_as_far_from_float64_as_the_reference(make_problem, poison, T, B, N, D, credit):
    problem = make_problem(T, B, N, D, seed=T, reset_probability=0.05)
    truth = solve(problem, "reference", "tbptt" if credit == "tbptt" else "gathered")
    plain = solve(problem.to(torch.float32), "reference", "tbptt" if credit == "tbptt" else "gathered")
    ours = solve(problem.to(torch.float32, DEVICE), "triton", credit)
    assert ours.keys() == truth.keys()
    on_matrix_units = DEVICE == "cuda" and credit != "tbptt"  # the trace's products, by tf32x3
    room = ROUNDING + (2 * advance_error(T, "tf32x3") if on_matrix_units else 0.0)
    for name in truth:
        assert ours[name].dtype == torch.float32
        assert error(ours[name], truth[name]) <= 2 * error(plain[name], truth[name]) + room, name


def test_each_gate_is_precise_where_it_is_small_and_where_it_saturates():
    """Element by element: one step without weights, so that the biases are the pre-activations, exactly."""
    u_z = torch.linspace(-20, 20, 41).repeat_interleave(31)
    u_f = torch.linspace(-25, 25, 31).repeat(41)
    u_z[::7] = u_z[::7] * 1e-3
    zeros = torch.zeros(u_z.shape[0], 1), torch.zeros(u_z.shape[0])
    W_z, W_f, w_z, w_f = (v.to(DEVICE) for v in (zeros[0], zeros[0], zeros[1], zeros[1]))
    b_z, b_f = (u.clone().to(DEVICE).requires_grad_() for u in (u_z, u_f))
    c_0 = torch.full((1, u_z.shape[0]), 2.0, device=DEVICE, requires_grad=True)
    x, reset = torch.ones(1, 1, 1, device=DEVICE), torch.zeros(1, 1, dtype=torch.bool, device=DEVICE)
    c, _ = elstm(x, W_z, W_f, w_z, w_f, b_z, b_f, c_0, reset, backend="triton")
    zi, fi, a = torch.autograd.grad(c.sum(), [b_z, b_f, c_0])

    u_z, u_f = u_z.double(), u_f.double()
    z, f, closed = u_z.tanh(), u_f.sigmoid(), (-u_f).sigmoid()
    for ours, truth in (
        (c, z + f * (2 - z)),
        (zi, closed / u_z.cosh() ** 2),
        (fi, closed * f * (2 - z)),
        (a, f),
    ):
        torch.testing.assert_close(ours.cpu().double().view(-1), truth, rtol=1e-5, atol=0)


@pytest.mark.parametrize("credit", ["gathered", "banked"])
def test_the_same_call_gives_the_same_bits(make_problem, credit):
    problem = make_problem(5, 9, 20, 9, seed=2).to(torch.float32, DEVICE)
    first, second = (solve(problem, "triton", credit) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_gradients_the_same_states_and_trace_come_out(make_problem):
    problem = make_problem(6, 3, 20, 9, seed=5).to(torch.float32, DEVICE)
    truth = solve(problem, "triton", "gathered")
    with torch.no_grad():
        arguments = (problem.x, *problem.weights, problem.c_0, problem.reset)
        c, advanced = elstm(*arguments, problem.trace, backend="triton")
        c_alone, none = elstm(*arguments, backend="triton")
    assert none is None and torch.equal(c, truth["c"]) and torch.equal(c_alone, truth["c"])
    for name, s in advanced._asdict().items():
        assert torch.equal(s, truth[f"trace.{name}"])


def test_the_trace_handed_in_is_left_alone(make_problem):
    problem = make_problem(4, 2, 6, 5).to(torch.float32, DEVICE)
    before = problem.trace.map(torch.clone)
    solve(problem, "triton", "gathered")
    assert all(torch.equal(s, s_before) for s, s_before in zip(problem.trace, before, strict=True))


def test_strided_inputs_give_the_same_answer(make_problem):
    problem = make_problem(5, 3, 6, 4, seed=6).to(torch.float32, DEVICE)
    truth = solve(problem, "triton", "gathered")

    def strided(tensor: Tensor) -> Tensor:
        return torch.stack([tensor.detach(), tensor.detach()], -1)[..., 0]

    problem.x, problem.c_0 = strided(problem.x).requires_grad_(), strided(problem.c_0).requires_grad_()
    problem.reset, problem.trace = strided(problem.reset), problem.trace.map(strided)
    assert not problem.x.is_contiguous() and not problem.trace.w_z.is_contiguous()
    ours = solve(problem, "triton", "gathered")
    for name in truth:
        torch.testing.assert_close(ours[name], truth[name], rtol=1e-6, atol=1e-6)


def test_float64_is_refused(make_problem):
    problem = make_problem(3, 2, 4, 3).to(torch.float64, DEVICE)
    with pytest.raises(ValueError, match=r"^x is torch.float64: backend 'triton' computes in float32"):
        elstm(problem.x, *problem.weights, problem.c_0, problem.reset, problem.trace, "triton")
    inputs = [torch.zeros(2, 3, dtype=torch.float64, device=DEVICE) for _ in range(5)]
    with pytest.raises(ValueError, match=r"^log_rhos is torch.float64: backend 'triton'"):
        vtrace(*inputs, torch.ones(2, 3, dtype=torch.bool, device=DEVICE), backend="triton")


@pytest.mark.skipif(DEVICE == "cuda", reason="for a machine without a GPU")
def test_a_cpu_tensor_is_refused_outside_the_interpreter():
    """In a process of its own, since the interpreter is chosen when the kernels are imported."""
    code = (
        "import torch\n"
        "from kernels.trace import choose_backend\n"
        "from kernels.vtrace import vtrace\n"
        "v = torch.zeros(2, 3)\n"
        "for call in (lambda: choose_backend('triton', v),\n"
        "             lambda: vtrace(v, v, v, v, v, v > 0, backend='triton')):\n"
        "    try:\n"
        "        call()\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": "."}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.stdout.splitlines() == [
        "x is on cpu: backend 'triton' needs a GPU, choose 'chunked'",
        "log_rhos is on cpu: backend 'triton' needs a GPU",
    ], run.stderr


def random_vtrace(T: int, B: int, seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    names = ("log_rhos", "rewards", "discounts", "values", "next_values")
    inputs = {name: torch.randn(T, B, generator=g, dtype=torch.float64) for name in names}
    inputs["discounts"] = 0.95 * (inputs["discounts"] > -1).double()
    return inputs | {"continues": torch.rand(T, B, generator=g) > 0.1}


def as_float32(inputs: dict[str, Tensor], device: str) -> dict[str, Tensor]:
    return {n: (v.float() if v.is_floating_point() else v).to(device) for n, v in inputs.items()}


@pytest.mark.parametrize(("T", "B"), [(1, 1), (63, 5), (100, 33)])
@pytest.mark.parametrize("clips", [(1.0, 1.0, 1.0), (None, None, None), (0.8, 1.3, 2.0)])
def test_vtrace_is_at_most_twice_as_far_from_float64_as_the_reference(poison, T, B, clips):
    inputs = random_vtrace(T, B, seed=T)
    options = {"clip_rho": clips[0], "clip_c": clips[1], "clip_pg_rho": clips[2], "lambda_": 0.9}
    truth = vtrace(**inputs, **options, backend="reference")
    plain = vtrace(**as_float32(inputs, "cpu"), **options, backend="reference")
    ours = vtrace(**as_float32(inputs, DEVICE), **options, backend="triton")
    for name in ("vs", "pg_advantages"):
        bound = 2 * error(getattr(plain, name), getattr(truth, name)) + ROUNDING
        assert error(getattr(ours, name), getattr(truth, name)) <= bound


def test_vtrace_cuts_by_selection_and_hides_no_nan():
    inputs = as_float32(random_vtrace(5, 2, seed=1), DEVICE)
    inputs["continues"][:] = True
    inputs["discounts"][:] = 0.95  # nothing comes back from a terminal state, whose discount is 0
    inputs["continues"][1, 0] = False
    inputs["log_rhos"][2, 0] = math.inf  # the dummy after the cut
    inputs["log_rhos"][3, 1] = math.nan  # a real step
    vs, advantages = vtrace(**inputs, clip_rho=None, clip_c=None, clip_pg_rho=None, backend="triton")
    assert vs[:2, 0].isfinite().all() and advantages[:2, 0].isfinite().all()
    vs, advantages = vtrace(**inputs, backend="triton")
    assert vs[:4, 1].isnan().all() and advantages[:4, 1].isnan().all() and vs[4, 1].isfinite()


@pytest.mark.gpu
def test_a_cuda_graph_of_forward_and_backward_replays_the_same_bits(make_problem):
    problem = make_problem(20, 4, 70, 33, seed=8).to(torch.float32, "cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # compiles the kernels, and takes what capture may not allocate
        truth = solve(problem, "triton", "gathered")
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = solve(problem, "triton", "gathered")
    for value in captured.values():
        value.fill_(math.nan)
    graph.replay()
    assert all(torch.equal(captured[name], truth[name]) for name in truth)


@pytest.mark.gpu
def test_auto_is_triton_for_float32_on_a_gpu_and_chunked_for_float64(make_problem):
    for dtype, backend in ((torch.float32, "triton"), (torch.float64, "chunked")):
        problem = make_problem(5, 2, 8, 3).to(dtype, "cuda")
        auto, named = solve(problem, "auto", "banked"), solve(problem, backend, "banked")
        assert all(torch.equal(auto[name], named[name]) for name in named)


def test_a_bank_of_zeros_starts_a_stream(make_problem):
    problem = make_problem(4, 2, 6, 5).to(torch.float32, DEVICE)
    bank = ELSTMTrace.zeros(5, 6, 5, device=DEVICE).packed()
    ticket = BankedTrace(bank, torch.tensor([3, 1]))
    c, _ = elstm(problem.x, *problem.weights, problem.c_0, problem.reset, ticket, "triton")
    ours = torch.autograd.grad(c.sum(), problem.weights)
    c, _ = elstm(problem.x, *problem.weights, problem.c_0, problem.reset, None, "triton")
    torch.testing.assert_close(ours, torch.autograd.grad(c.sum(), problem.weights))
    assert bank.matrices[[3, 1]].any() and not bank.matrices[[0, 2, 4]].any()
