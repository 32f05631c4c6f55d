"""SnAp-1 by its definition: the whole influence matrix, stepped in float64 and masked to each weight's own
unit.

On element-wise cells the mask drops nothing, and ours, RTRL, is it. On the eLSTM with full recurrent matrices
it does, and ours is it too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.cells.felstm.core import FELSTM
from kernels.rtrl import BankedTrace
from tests.kernels.rtrl.certificate import STEPS, chunk_by_chunk, errors, make_case, through_time
from tests.kernels.rtrl.test_certificate import ONE_OF_A_KIND

B, N, D = 2, 4, 3
LENGTHS = [3, 1, 4]
T = sum(LENGTHS)
Parameters = dict[str, Tensor]


def snap1(
    step: Callable[[Tensor, Tensor, Parameters], Tensor],
    parameters: Parameters,
    x: Tensor,
    h_0: Tensor,
    reset: Tensor,
    direct: Tensor,
    masked: bool = True,
) -> list[Tensor]:
    """sum_t direct[t] J_t with J_t = mask (A_t J_{t-1} + B_t), of `step(x, h, parameters)` of h [d, N].

    A parameter's first axis is the unit that it feeds. Without the mask: RTRL of the whole influence matrix.
    """
    total = [torch.zeros_like(p) for p in parameters.values()]
    names, values = list(parameters), tuple(parameters.values())
    for b in range(x.shape[1]):
        h, J = h_0[b], [torch.zeros(*h_0[b].shape, *p.shape, dtype=p.dtype) for p in values]
        for t in range(x.shape[0]):
            if reset[t, b]:
                h, J = torch.zeros_like(h), [torch.zeros_like(j) for j in J]

            def moved(h: Tensor, *given: Tensor, x_t: Tensor = x[t, b]) -> Tensor:
                return step(x_t, h, dict(zip(names, given, strict=True)))

            by: Any = torch.autograd.functional.jacobian(moved, (h, *values))
            J = [torch.tensordot(by[0], j, 2) + immediate for j, immediate in zip(J, by[1:], strict=True)]
            if masked:
                own = torch.eye(h.shape[1], dtype=h.dtype)[None]
                J = [j * own.view(1, *own.shape[1:], *[1] * (j.ndim - 3)) for j in J]
            h = moved(h, *values)
            total = [g + torch.tensordot(direct[t, b], j, 2) for g, j in zip(total, J, strict=True)]
    return total


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_on_element_wise_cells_snap1_is_exact_rtrl(name: str) -> None:
    case = make_case(name, LENGTHS, shape=(B, N, D))

    def step(x: Tensor, h: Tensor, p: Parameters) -> Tensor:
        u = {gate: (p[gate] @ x)[None] for gate in case.cell.gates}
        return torch.cat(STEPS[name](u, list(h[:, None].unbind(0)), p)).view_as(h)

    # The direct gradient of every state, by a second walk of the same states.
    parameters = dict(zip(case.names(), case.parameters, strict=True))
    h, states = case.h_0, []
    for t in range(T):
        h = torch.where(case.reset[t][:, None, None], 0.0, h)
        h = torch.stack([step(x, one, parameters) for x, one in zip(case.x[t], h, strict=True)])
        states.append(h)
    leaf = torch.stack(states).requires_grad_()
    loss = torch.stack([case.loss(leaf[chunk], chunk) for chunk in case.chunks()]).sum()
    direct = torch.autograd.grad(loss, leaf)[0]
    kept = snap1(step, parameters, case.x, case.h_0, case.reset, direct)
    assert max(errors(case, kept, through_time(case)).values()) < 1e-12
    assert max(errors(case, chunk_by_chunk(case, "chunked", True), kept).values()) < 1e-12


def full_step(x: Tensor, h: Tensor, p: Parameters) -> Tensor:
    """The README's equations, on one stream."""
    c = h[0]
    z = torch.tanh(p["W_z"] @ x + p["R_z"] @ c + p["b_z"])
    f = 1.0 / (1.0 + torch.exp(-(p["W_f"] @ x + p["R_f"] @ c + p["b_f"])))
    return (f * c + (1.0 - f) * z)[None]


class Full:
    """A core with a recurrence that mixes units, its streams, and a loss on its states alone."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.core = FELSTM(D, N).double()
        names = ("W_z", "W_f", "R_z", "R_f", "b_z", "b_f")
        for parameter in self.core.recurrent_parameters():
            parameter.data = torch.randn_like(parameter)
        self.parameters = {name: self.core.get_parameter(name).detach() for name in names}
        self.x, self.c_0 = torch.randn(T, B, D).double(), torch.randn(B, N).double()
        self.e = torch.randn(T, B, N).double()
        self.reset = torch.zeros(T, B, dtype=torch.bool)
        self.reset[[0, LENGTHS[0], LENGTHS[0], T - 1], [0, 0, 1, 1]] = True

    def oracle(self, masked: bool) -> list[Tensor]:
        e, c_0 = self.e[:, :, None], self.c_0[:, None]
        return snap1(full_step, self.parameters, self.x, c_0, self.reset, e, masked)

    def ours(self, lengths: list[int], way: str) -> list[Tensor]:
        """way: gathered or banked traces, or none (TBPTT)."""
        core, state, start = self.core, (self.c_0,), 0
        parameters = core.recurrent_parameters()
        total = [torch.zeros_like(p) for p in parameters]
        trace: Any = None if way == "none" else core.initial_trace(B)
        for length in lengths:
            chunk = slice(start, start + length)
            start += length
            given = BankedTrace(trace, torch.arange(B)) if way == "banked" else trace
            backend = "auto" if way == "none" else "chunked"
            c_0 = state[0].detach().requires_grad_()
            before = None if trace is None else trace.map(torch.clone)
            c, advanced = core._scan(self.x[chunk], c_0, self.reset[chunk], given, backend)
            loss = (self.e[chunk] * c[:, :, 0]).sum()
            *gradients, lam_0 = torch.autograd.grad(loss, [*parameters, c_0])
            total = [a + b for a, b in zip(total, gradients, strict=True)]
            if way == "gathered":
                self.check_boundary_term(before, lam_0, chunk, gradients)
                trace = advanced
            state = (c[-1, :, 0],)
        return total

    def check_boundary_term(self, trace: Any, lam_0: Tensor, chunk: slice, gradients: list[Tensor]) -> None:
        """What `boundary_term` says is what the gradient loses where the trace is zero."""
        core = self.core
        zero = trace.map(torch.zeros_like)
        c_0 = self.states()[chunk.start - 1] if chunk.start else self.c_0
        c, _ = core._scan(self.x[chunk], c_0, self.reset[chunk], zero, "chunked")
        without = torch.autograd.grad((self.e[chunk] * c[:, :, 0]).sum(), core.recurrent_parameters())
        said = core.boundary_term(trace, lam_0)
        for term, whole, part in zip(said, gradients, without, strict=True):
            torch.testing.assert_close(term, whole - part, rtol=1e-10, atol=1e-12)

    def states(self) -> Tensor:
        with torch.no_grad():
            return self.core._through_time(self.x, self.c_0, self.reset)[:, :, 0]


def off(ours: list[Tensor], truth: list[Tensor]) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours, truth, strict=True))


@pytest.mark.parametrize("way", ["gathered", "banked"])
@pytest.mark.parametrize("lengths", [[T], LENGTHS, [1] * T])
def test_on_full_matrices_a_trace_makes_it_snap1_wherever_unrolls_are_cut(lengths, way) -> None:
    full = Full()
    assert off(full.ours(lengths, way), full.oracle(masked=True)) < 1e-12


def test_which_is_not_full_backpropagation() -> None:
    full = Full()
    truth = full.oracle(masked=False)
    assert off(full.ours([T], "none"), truth) < 1e-12, "TBPTT of one chunk is exact"
    assert off(full.oracle(masked=True), truth) > 0.05
    assert off(full.ours(LENGTHS, "none"), truth) > 0.05


def test_a_trace_does_not_change_the_states() -> None:
    full = Full()
    core = full.core
    with torch.no_grad():
        c, _ = core._scan(full.x, full.c_0, full.reset, core.initial_trace(B), "chunked")
    torch.testing.assert_close(c[:, :, 0], full.states(), rtol=1e-12, atol=1e-12)
