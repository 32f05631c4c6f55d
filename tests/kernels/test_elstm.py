"""The eLSTM against full backpropagation through time, and its backends against each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.elstm import ELSTMTrace, elstm

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
st = hypothesis.strategies

BACKENDS = ["reference", "chunked"]
EXACT = {"rtol": 1e-10, "atol": 1e-11}  # float64; sums of up to some hundred terms of order 1


def solve(problem, backend, with_trace) -> dict[str, Tensor]:
    """States, advanced trace and every gradient of one chunk."""
    trace = problem.trace if with_trace else None
    c, advanced = elstm(problem.x, *problem.weights, problem.c_0, problem.reset, trace, backend)
    gradients = torch.autograd.grad(problem.loss(c), problem.differentiable)
    names = ["x", "W_z", "W_f", "w_z", "w_f", "b_z", "b_f", "c_0"]
    results = {"c": c.detach(), **dict(zip(names, gradients, strict=True))}
    if advanced is not None:
        results |= {f"trace.{name}": s for name, s in advanced._asdict().items()}
    return results


def relative_error(value: Tensor, truth: Tensor) -> float:
    return ((value.double() - truth).norm() / truth.norm().clamp(min=1e-30)).item()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rtrl_chunk_by_chunk_is_backpropagation_through_the_whole_stream(
    make_problem, autograd_states, backend
):
    # Resets fall on the first and last step of the stream, on both sides of a seam, and in a row.
    lengths, T, B, N = [5, 1, 8, 4], 18, 4, 6
    whole = make_problem(T, B, N, 3, seed=1)
    whole.reset[[4, 5, 6, 13, 14], [1, 1, 2, 2, 3]] = True
    c_full = autograd_states(whole.x, whole.weights, whole.c_0, whole.reset)

    c_0, start = whole.c_0.detach(), 0
    trace = ELSTMTrace.zeros(B, N, 3, dtype=torch.float64)
    for length in lengths:
        here = slice(start, start + length)
        c, trace = elstm(whole.x[here], *whole.weights, c_0, whole.reset[here], trace, backend)
        loss = (c * whole.e[here]).sum() + (c[-1] ** 3).sum()
        loss_full = (c_full[here] * whole.e[here]).sum() + (c_full[here][-1] ** 3).sum()
        ours = torch.autograd.grad(loss, whole.weights)
        full = torch.autograd.grad(loss_full, whole.weights, retain_graph=True)
        torch.testing.assert_close(c, c_full[here], **EXACT)
        for g, g_full in zip(ours, full, strict=True):
            torch.testing.assert_close(g, g_full, **EXACT)
        c_0, start = c[-1].detach(), start + length
    assert start == T


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("T", [1, 2, 9])
def test_without_a_trace_it_is_backpropagation_inside_the_chunk(make_problem, autograd_states, backend, T):
    problem = make_problem(T, 3, 5, 4, seed=2)
    c = autograd_states(problem.x, problem.weights, problem.c_0, problem.reset)
    truth = torch.autograd.grad(problem.loss(c), problem.differentiable)
    results = solve(problem, backend, with_trace=False)
    torch.testing.assert_close(results.pop("c"), c, **EXACT)
    for g, g_true in zip(results.values(), truth, strict=True):
        torch.testing.assert_close(g, g_true, **EXACT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(make_problem, backend):
    problem = make_problem(3, 2, 3, 2, seed=3)

    def states(*inputs: Tensor) -> Tensor:
        c, _ = elstm(*inputs, problem.reset, None, backend)  # pyright: ignore[reportArgumentType]
        return c

    assert torch.autograd.gradcheck(states, problem.differentiable)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_trace_leaves_the_gradients_of_inputs_and_initial_state_alone(make_problem, backend):
    problem = make_problem(6, 3, 4, 2, seed=4)
    with_trace, without = (solve(problem, backend, with_trace) for with_trace in (True, False))
    for name in ("c", "x", "c_0"):
        torch.testing.assert_close(with_trace[name], without[name], rtol=0, atol=0)


@pytest.mark.parametrize("with_trace", [True, False])
@pytest.mark.parametrize(
    ("T", "B", "N", "D"),
    [(1, 3, 500, 257), (63, 2, 500, 257), (100, 2, 20, 257), (100, 1, 500, 1), (7, 5, 1, 3)],
)
def test_chunked_equals_reference(make_problem, T, B, N, D, with_trace):
    problem = make_problem(T, B, N, D, seed=5, reset_probability=0.03)
    ours, truth = (solve(problem, backend, with_trace) for backend in ("chunked", "reference"))
    assert ours.keys() == truth.keys()
    for name in truth:
        assert relative_error(ours[name], truth[name]) < 1e-13, name


@hypothesis.given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 999),
    resets=st.sampled_from([0.0, 0.2, 0.9]),
    with_trace=st.booleans(),
)
@hypothesis.settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    # the fixture is a pure function
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
)
def test_chunked_equals_reference_on_any_shape(make_problem, shape, seed, resets, with_trace):
    problem = make_problem(*shape, seed, resets)
    ours, truth = (solve(problem, backend, with_trace) for backend in ("chunked", "reference"))
    for name in truth:
        torch.testing.assert_close(ours[name], truth[name], **EXACT)


@pytest.mark.parametrize(("T", "N", "D"), [(100, 64, 257), (63, 33, 7), (1, 64, 257)])
def test_float32_is_at_most_twice_as_far_from_float64_as_the_reference(make_problem, T, N, D):
    problem = make_problem(T, 4, N, D, seed=6, reset_probability=0.02)
    truth = solve(problem, "reference", with_trace=True)
    single = problem.to(torch.float32)
    ours, plain = (solve(single, backend, with_trace=True) for backend in ("chunked", "reference"))
    for name in truth:
        assert ours[name].dtype == torch.float32
        bound = 2 * relative_error(plain[name], truth[name])
        assert 0 < bound < 1e-4
        assert relative_error(ours[name], truth[name]) <= bound, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reset_column_forgets_state_and_trace(make_problem, backend):
    problem = make_problem(4, 2, 3, 2, seed=7, reset_probability=0.0)
    problem.reset[2] = True
    fresh = ELSTMTrace.zeros(2, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        _, long = elstm(problem.x, *problem.weights, problem.c_0, problem.reset, problem.trace, backend)
        _, short = elstm(
            problem.x[2:], *problem.weights, torch.zeros(2, 3).double(), problem.reset[2:], fresh, backend
        )
    assert long is not None and short is not None
    for s_long, s_short in zip(long, short, strict=True):
        torch.testing.assert_close(s_long, s_short, **EXACT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_of_the_initial_state_vanishes_where_step_0_resets(make_problem, backend):
    problem = make_problem(3, 4, 5, 2, seed=8, reset_probability=0.0)
    problem.reset[0] = torch.tensor([True, False, True, False])
    gradient = solve(problem, backend, with_trace=True)["c_0"]
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[[1, 3]] != 0).any(1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_trace_handed_in_is_left_alone_and_not_shared(make_problem, backend):
    problem = make_problem(3, 2, 3, 2, seed=9)
    before = problem.trace.map(torch.clone)
    c, after = elstm(problem.x, *problem.weights, problem.c_0, problem.reset, problem.trace, backend)
    assert after is not None
    c.sum().backward()
    for old, kept, new in zip(before, problem.trace, after, strict=True):
        torch.testing.assert_close(kept, old, rtol=0, atol=0)
        assert new.untyped_storage().data_ptr() != kept.untyped_storage().data_ptr()
        assert not new.requires_grad


@pytest.mark.parametrize("backend", BACKENDS)
def test_backward_may_run_twice(make_problem, backend):
    problem = make_problem(4, 2, 3, 2, seed=10)
    c, _ = elstm(problem.x, *problem.weights, problem.c_0, problem.reset, problem.trace, backend)
    loss = problem.loss(c)
    first = torch.autograd.grad(loss, problem.differentiable, retain_graph=True)
    second = torch.autograd.grad(loss, problem.differentiable)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("with_trace", [True, False])
def test_without_gradients_the_same_states_and_trace_come_out(make_problem, with_trace):
    problem = make_problem(5, 2, 3, 2, seed=11)
    trace = problem.trace if with_trace else None
    arguments = (problem.x, *problem.weights, problem.c_0, problem.reset, trace)
    c, trace = elstm(*arguments, backend="chunked")
    with torch.no_grad():
        c_free, trace_free = elstm(*arguments, backend="chunked")
    assert not c_free.requires_grad
    torch.testing.assert_close(c_free, c.detach(), rtol=0, atol=0)
    assert (trace is None) == (trace_free is None) == (not with_trace)
    for a, b in zip(trace or (), trace_free or (), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_frozen_input_costs_no_gradient_and_changes_none(make_problem):
    problem = make_problem(5, 2, 3, 2, seed=12)
    truth = solve(problem, "chunked", with_trace=True)
    c, _ = elstm(
        problem.x.detach(), *problem.weights, problem.c_0.detach(), problem.reset, problem.trace, "chunked"
    )
    gradients = torch.autograd.grad(problem.loss(c), problem.weights)
    for g, name in zip(gradients, ELSTMTrace._fields, strict=True):
        torch.testing.assert_close(g, truth[name], rtol=0, atol=0)


@pytest.mark.parametrize("with_trace", [True, False])
def test_no_uninitialised_memory_is_read(make_problem, request, with_trace):
    problem = make_problem(7, 3, 5, 4, seed=13)
    truth = solve(problem, "chunked", with_trace)
    request.getfixturevalue("poison")
    poisoned = solve(problem, "chunked", with_trace)
    for name in truth:
        torch.testing.assert_close(poisoned[name], truth[name], rtol=0, atol=0)


def test_strided_inputs_give_the_same_answer(make_problem):
    problem = make_problem(6, 3, 4, 5, seed=14)
    truth = solve(problem, "chunked", with_trace=True)
    problem.x = problem.x.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0).requires_grad_()
    problem.weights[0] = problem.weights[0].detach().T.contiguous().T.requires_grad_()
    problem.c_0 = problem.c_0.detach().T.contiguous().T.requires_grad_()
    assert not problem.x.is_contiguous()
    strided = solve(problem, "chunked", with_trace=True)
    for name in truth:
        torch.testing.assert_close(strided[name], truth[name], **EXACT)
