"""Every guard at the eLSTM's door, tripped once; the trace's own class."""

from __future__ import annotations

import pytest
import torch

from kernels.elstm import ELSTMTrace, elstm

ARGUMENTS = ("x", "W_z", "W_f", "w_z", "w_f", "b_z", "b_f", "c_0", "reset")


def call(problem, **changed):
    inputs = dict(zip(ARGUMENTS, (*problem.differentiable, problem.reset), strict=True))
    return elstm(**(inputs | {"trace": problem.trace} | changed))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_wrong_shape_is_named(make_problem, name):
    problem = make_problem(3, 2, 4, 5)
    wrong = dict(zip(ARGUMENTS, (*problem.differentiable, problem.reset), strict=True))[name][..., :-1]
    # One column less of x or W_z makes the other one the odd one out.
    blamed = {"x": "W_z", "W_z": "W_z"}.get(name, name)
    with pytest.raises(ValueError, match=f"^{blamed} has shape"):
        call(problem, **{name: wrong})


def test_a_wrong_number_of_dimensions_or_steps_is_named(make_problem):
    problem = make_problem(3, 2, 4, 5)
    with pytest.raises(ValueError, match=r"^x has shape .* expected \[T, B, D\]"):
        call(problem, x=problem.x[0])
    with pytest.raises(ValueError, match="T >= 1"):
        call(problem, x=problem.x[:0], reset=problem.reset[:0])
    with pytest.raises(ValueError, match=r"^W_z has shape"):
        call(problem, W_z=problem.weights[0][0])


@pytest.mark.parametrize("name", ARGUMENTS[1:8])
def test_mixed_dtypes_are_named(make_problem, name):
    problem = make_problem(3, 2, 4, 5)
    wrong = dict(zip(ARGUMENTS, (*problem.differentiable, problem.reset), strict=True))[name].float()
    with pytest.raises(ValueError, match=f"^{name} is torch.float32, x is torch.float64"):
        call(problem, **{name: wrong})


def test_half_precision_is_refused(make_problem):
    problem = make_problem(3, 2, 4, 5).to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"^x is torch.bfloat16"):
        call(problem)


def test_a_reset_that_is_not_bool_is_refused(make_problem):
    problem = make_problem(3, 2, 4, 5)
    with pytest.raises(ValueError, match=r"^reset is torch.float64, expected torch.bool"):
        call(problem, reset=problem.reset.double())


@pytest.mark.parametrize("name", ["W_f", "c_0", "reset", "trace"])
def test_a_second_device_is_named(make_problem, name):
    problem = make_problem(3, 2, 4, 5)
    inputs = dict(zip(ARGUMENTS, (*problem.differentiable, problem.reset), strict=True))
    wrong = problem.trace.map(lambda s: s.to("meta")) if name == "trace" else inputs[name].to("meta")
    with pytest.raises(ValueError, match=f"^{name}.* is on meta, x on cpu"):
        call(problem, **{name: wrong})


@pytest.mark.parametrize("field", ELSTMTrace._fields)
def test_a_wrong_trace_is_named(make_problem, field):
    problem = make_problem(3, 2, 4, 5)
    tensor = getattr(problem.trace, field)
    with pytest.raises(ValueError, match=f"^trace.{field} has shape"):
        call(problem, trace=problem.trace._replace(**{field: tensor[:1]}))
    with pytest.raises(ValueError, match=f"^trace.{field} is torch.float32"):
        call(problem, trace=problem.trace._replace(**{field: tensor.float()}))
    with pytest.raises(ValueError, match=f"^trace.{field} requires grad"):
        call(problem, trace=problem.trace._replace(**{field: tensor.clone().requires_grad_()}))


def test_an_unknown_backend_is_refused(make_problem):
    with pytest.raises(ValueError, match=r"^backend = 'fast': choose one of"):
        call(make_problem(3, 2, 4, 5), backend="fast")


def test_the_default_backend_is_the_fast_one(make_problem):
    problem = make_problem(3, 2, 4, 5)
    torch.testing.assert_close(call(problem)[0], call(problem, backend="chunked")[0], rtol=0, atol=0)


def test_trace_zeros_and_map():
    trace = ELSTMTrace.zeros(3, 4, 5, device="cpu", dtype=torch.float64)
    assert [list(s.shape) for s in trace] == [[3, 4, 5]] * 2 + [[3, 4]] * 4
    assert all(s.dtype == torch.float64 and not s.any() for s in trace)
    rows = torch.tensor([2, 0])
    gathered = trace.map(lambda s: (s + torch.arange(3.0).view(3, *(1,) * (s.ndim - 1)))[rows])
    assert isinstance(gathered, ELSTMTrace)
    assert all((s[0] == 2).all() and (s[1] == 0).all() for s in gathered)
