"""The eLSTM over rows of a bank: same numbers as gathered traces, and no half-updated history."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from kernels.elstm import BankedTrace, ELSTMTrace, elstm
from kernels.rtrl import Trace

ROWS = 7


def make_bank(problem, rows: list[int], matrices: torch.dtype | None = None) -> Trace:
    """A bank of noise whose `rows` hold the problem's trace."""
    generator = torch.Generator().manual_seed(99)

    def spread(s: Tensor) -> Tensor:
        bank = torch.randn(ROWS, *s.shape[1:], generator=generator, dtype=torch.float64).to(s)
        bank[rows] = s
        return bank if matrices is None or s.ndim == 4 else bank.to(matrices)

    return problem.trace.packed().map(spread)


def forward(problem, trace, backend="chunked") -> Tensor:
    return elstm(problem.x, *problem.weights, problem.c_0, problem.reset, trace, backend)[0]


def gradients(problem, trace, backend="chunked") -> tuple[Tensor, ...]:
    return torch.autograd.grad(problem.loss(forward(problem, trace, backend)), problem.differentiable)


@pytest.mark.parametrize("T", [1, 2, 33])
def test_equals_the_gathered_trace(make_problem, T):
    problem, rows = make_problem(T, 4, 6, 5, seed=1), [5, 0, 6, 2]
    bank = make_bank(problem, rows)
    before = bank.map(torch.clone)
    ticket = BankedTrace(bank, torch.tensor(rows))
    c, advanced = elstm(problem.x, *problem.weights, problem.c_0, problem.reset, problem.trace, "chunked")
    truth = torch.autograd.grad(problem.loss(c), problem.differentiable)

    c_banked, same = elstm(problem.x, *problem.weights, problem.c_0, problem.reset, ticket, "chunked")
    assert same is ticket
    assert all(torch.equal(s, s_before) for s, s_before in zip(bank, before, strict=True))  # not yet
    ours = torch.autograd.grad(problem.loss(c_banked), problem.differentiable)

    torch.testing.assert_close(c_banked, c, rtol=0, atol=0)
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ELSTMTrace.named(ticket.gather(), 5), advanced, rtol=1e-12, atol=1e-12)
    others = [row for row in range(ROWS) if row not in rows]
    assert all(torch.equal(s[others], s_before[others]) for s, s_before in zip(bank, before, strict=True))


def test_a_backward_that_runs_twice_is_refused_and_changes_nothing(make_problem):
    problem = make_problem(3, 2, 4, 3)
    bank = make_bank(problem, [4, 1])
    loss = problem.loss(forward(problem, BankedTrace(bank, torch.tensor([4, 1]))))
    loss.backward(retain_graph=True)
    after = bank.map(torch.clone)
    with pytest.raises(RuntimeError, match="BankedTrace that was advanced"):
        loss.backward()
    assert all(torch.equal(s, s_after) for s, s_after in zip(bank, after, strict=True))


@pytest.mark.parametrize("graph_alive", [True, False])
def test_a_backward_that_never_ran_is_found_by_the_next_forward(make_problem, graph_alive):
    problem = make_problem(3, 2, 4, 3)
    bank = make_bank(problem, [4, 1])
    first = BankedTrace(bank, torch.tensor([4, 1]))
    c = forward(problem, first)
    if not graph_alive:
        del c
        gc.collect()
    with pytest.raises(RuntimeError, match=r"rows \[1\] of the bank wait for the backward"):
        forward(problem, BankedTrace(bank, torch.tensor([1, 3])))
    gradients(problem, BankedTrace(bank, torch.tensor([0, 3])))  # rows that nobody waits for
    first.abandon()
    gradients(problem, BankedTrace(bank, torch.tensor([1, 3])))


def test_an_abandoned_backward_is_refused(make_problem):
    problem = make_problem(3, 2, 4, 3)
    bank = make_bank(problem, [4, 1])
    ticket = BankedTrace(bank, torch.tensor([4, 1]))
    c = forward(problem, ticket)
    ticket.abandon()
    again = forward(problem, BankedTrace(bank, torch.tensor([4, 1])))  # now these rows wait for another
    with pytest.raises(RuntimeError, match="BankedTrace that was abandoned"):
        c.sum().backward()
    again.sum().backward()


def test_two_banks_do_not_wait_for_each_other(make_problem):
    problem = make_problem(3, 2, 4, 3)
    one, other = (BankedTrace(make_bank(problem, [4, 1]), torch.tensor([4, 1])) for _ in range(2))
    c = forward(problem, one)
    gradients(problem, other)
    c.sum().backward()


def test_a_ticket_serves_once(make_problem):
    problem = make_problem(3, 2, 4, 3)
    ticket = BankedTrace(make_bank(problem, [4, 1]), torch.tensor([4, 1]))
    gradients(problem, ticket)
    with pytest.raises(RuntimeError, match="has served a forward already"):
        forward(problem, ticket)


def test_a_bank_written_to_between_forward_and_backward_is_refused(make_problem):
    problem = make_problem(3, 2, 4, 3)
    bank = make_bank(problem, [4, 1])
    c = forward(problem, BankedTrace(bank, torch.tensor([4, 1])))
    bank.matrices[4, 1].zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        c.sum().backward()


def test_a_forward_that_no_backward_can_follow_is_refused(make_problem):
    problem = make_problem(3, 2, 4, 3)
    ticket = BankedTrace(make_bank(problem, [4, 1]), torch.tensor([4, 1]))
    with torch.no_grad(), pytest.raises(ValueError, match="nothing here requires grad"):
        forward(problem, ticket)
    gradients(problem, ticket)  # the refusal has not used the ticket up


def test_bfloat16_matrices_stay_close_over_many_chunks(make_problem):
    """Rounded once a chunk, their error does not pile up: the trace decays faster than it is rounded."""
    problem, rows = make_problem(20, 4, 16, 9, seed=3, reset_probability=0.01).to(torch.float32), [5, 0, 6, 2]
    precise, rounded = make_bank(problem, rows), make_bank(problem, rows, torch.bfloat16)
    errors = []
    for _ in range(12):
        truth = gradients(problem, BankedTrace(precise, torch.tensor(rows)))
        ours = gradients(problem, BankedTrace(rounded, torch.tensor(rows)))
        errors.append(((ours[1] - truth[1]).norm() / truth[1].norm()).item())
    assert rounded.matrices.dtype == torch.bfloat16
    assert 0 < max(errors) < 2**-8


def test_bad_rows_and_banks_are_named(make_problem):
    problem = make_problem(3, 2, 4, 3)
    bank, rows = make_bank(problem, [4, 1]), torch.tensor([4, 1])
    for bad, message in (
        (rows.int(), r"^rows is torch.int32"),
        (rows[None], r"^rows is torch.int64 \[1, 2\], expected int64 \[B\]"),
        (torch.tensor([4, 7]), r"^rows names row 7, but the bank holds rows 0 to 6"),
        (torch.tensor([-1, 4]), r"^rows names row -1"),
        (torch.tensor([4, 4]), r"^rows names row 4 twice"),
    ):
        with pytest.raises(ValueError, match=message):
            BankedTrace(bank, bad)
    with pytest.raises(ValueError, match=r"^trace names 1 rows, x has B = 2 columns"):
        forward(problem, BankedTrace(bank, rows[:1]))
    for field, change, message in (
        ("matrices", lambda s: s[:, :-1], "has shape"),
        ("vectors", lambda s: s[:-1], "has shape"),
        ("matrices", lambda s: s.float(), "is torch.float32, x is torch.float64"),
        ("vectors", lambda s: s.bfloat16(), "is torch.bfloat16, x is torch.float64"),
        ("matrices", lambda s: s.mT.contiguous().mT, "is not contiguous"),
        ("vectors", lambda s: s.to("meta"), "is on meta"),
        ("vectors", lambda s: s.clone().requires_grad_(), "requires grad"),
    ):
        spoiled = bank._replace(**{field: change(getattr(bank, field))})
        with pytest.raises(ValueError, match=rf"^trace.bank.{field} {message}"):
            forward(problem, BankedTrace(spoiled, rows))
    with pytest.raises(ValueError, match="backend 'reference' takes gathered rows"):
        forward(problem, BankedTrace(bank, rows), backend="reference")


def test_gather_copies_the_rows_in_the_order_of_the_batch(make_problem):
    problem = make_problem(3, 2, 4, 3)
    ticket = BankedTrace(make_bank(problem, [4, 1]), torch.tensor([4, 1]))
    assert len(ticket) == 2
    for gathered, s in zip(ticket.gather(), problem.trace.packed(), strict=True):
        torch.testing.assert_close(gathered, s, rtol=0, atol=0)
    ticket.gather().matrices.zero_()
    assert ticket.bank.matrices[4].any()
