"""The battery that certifies a cell's RTRL as exact: the truth by plain steps and autograd, and every way of
ours.

The truth of a cell is one function of this file, `step(u, h, psi) -> h` on tensors by name, written from the
paper and not from the kernel: nothing of `kernels/` is in it. A new cell adds one such function to STEPS, and
no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kernels.rtrl import BankedTrace, Trace, rtrl_scan
from kernels.rtrl.cell import CELLS as OURS
from kernels.rtrl.cell import Cell

State = list[Tensor]
Step = Callable[[dict[str, Tensor], State, dict[str, Tensor]], State]
sigm = torch.sigmoid


def elstm(u: dict[str, Tensor], h: State, p: dict[str, Tensor]) -> State:
    z = (u["W_z"] + h[0] * p["w_z"] + p["b_z"]).tanh()
    f = sigm(u["W_f"] + h[0] * p["w_f"] + p["b_f"])
    return [f * h[0] + (1.0 - f) * z]


def mingru(u: dict[str, Tensor], h: State, p: dict[str, Tensor]) -> State:
    z = sigm(u["W_z"] + p["b_z"])
    return [h[0] - z * h[0] + z * (u["W_n"] + p["b_n"])]


def indylstm(u: dict[str, Tensor], h: State, p: dict[str, Tensor]) -> State:
    i, f, o = (sigm(u[f"W_{g}"] + h[1] * p[f"w_{g}"] + p[f"b_{g}"]) for g in "ifo")
    c = f * h[0] + i * (u["W_g"] + h[1] * p["w_g"] + p["b_g"]).tanh()
    return [c, o * c.tanh()]


def block_diagonal(u: dict[str, Tensor], h: State, p: dict[str, Tensor]) -> State:
    return [
        (p["m_11"] * h[0] + p["m_12"] * h[1] + u["W_1"]).tanh(),
        (p["m_21"] * h[0] + p["m_22"] * h[1] + u["W_2"]).tanh(),
    ]


def rotation(name: str) -> Step:
    """Of the trace units by complex numbers, where ours has pairs of real ones."""

    def step(u: dict[str, Tensor], h: State, p: dict[str, Tensor]) -> State:
        nu, theta = p["nu_log"], p["theta_log"]
        decay = nu if "/exp/" in name else nu.exp()
        turn = theta if name.endswith("/direct") else theta.exp()
        eigenvalue = torch.exp(torch.complex(-decay, turn))
        gamma = p["gamma_log"].exp() if "gamma_log" in p else (-torch.expm1(-2.0 * decay)).sqrt()
        c = eigenvalue * torch.complex(h[0], h[1]) + gamma * torch.complex(u["W_1"], u["W_2"])
        f = torch.tanh if "tanh" in name else torch.relu if "relu" in name else lambda v: v
        return [f(c.real), f(c.imag)]

    return step


STEPS: dict[str, Step] = {
    "elstm": elstm,
    "mingru": mingru,
    "indylstm": indylstm,
    "block_diagonal": block_diagonal,
    **{name: rotation(name) for name in OURS if name.startswith("rtu_") or name == "lru"},
}


@dataclass
class Case:
    """Streams of float64, cut into chunks of `lengths`; a loss that uses every state, not linearly at each
    seam."""

    cell: Cell
    lengths: list[int]
    x: Tensor
    W: list[Tensor]
    psi: list[Tensor]
    h_0: Tensor
    reset: Tensor
    e: Tensor
    faults: Faults = field(default_factory=lambda: Faults())

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.W, *self.psi]

    def names(self) -> list[str]:
        return [*self.cell.gates, *self.cell.vectors]

    def chunks(self) -> list[slice]:
        ends = torch.tensor(self.lengths).cumsum(0).tolist()
        return [slice(end - length, end) for end, length in zip(ends, self.lengths, strict=True)]

    def loss(self, h: Tensor, chunk: slice) -> Tensor:
        """Of the states [T, B, d, N] of that chunk."""
        return (self.e[chunk] * h).sum() + (h[-1] ** 3).sum()


@dataclass
class Faults:
    """Faults planted into the way of ours, so that the certificate is seen to fail."""

    reset_late: bool = False
    """The trace meets a reset one step late: it is taken at t + 1."""
    forget_trace: bool = False
    """The outgoing trace ignores the incoming one."""
    boundary_twice: bool = False
    keep_through_reset: bool = False
    """A reset on a chunk's first step zeroes the state and not the trace."""


def make_case(
    name: str,
    lengths: list[int],
    seed: int = 0,
    memory: float | None = None,
    shape: tuple[int, int, int] = (3, 4, 5),
) -> Case:
    """memory: of the cells with gates the forget bias, of the others the radius; None: as drawn. shape: B, N,
    D.

    Resets on the first and the last step, on consecutive ones, on both sides of a seam, and some more.
    """
    cell = OURS[name]
    B, N, D = shape
    T = sum(lengths)
    g = torch.Generator().manual_seed(seed)

    def normal(*size: int, std: float = 1.0) -> Tensor:
        return std * torch.randn(*size, generator=g, dtype=torch.float64)

    W = [normal(N, D, std=0.6) for _ in cell.gates]
    psi = {vector: normal(N, std=0.5) for vector in cell.vectors}
    if "nu_log" in psi:
        drawn = torch.rand(N, generator=g, dtype=torch.float64) * 0.8 + 0.15
        nu = -(drawn if memory is None else torch.full_like(drawn, memory)).log()
        psi["nu_log"] = nu if "/exp/" in name else nu.log()
    elif memory is not None:
        gate, sign = ("b_z", -1.0) if name == "mingru" else ("b_f", 1.0)
        if gate in psi:
            psi[gate] += sign * memory
    reset = torch.rand(T, B, generator=g) < 0.04
    reset[0, 0] = reset[T - 1, B - 1] = True
    reset[T // 2 : T // 2 + 2, B // 2] = True
    if len(lengths) > 1:
        reset[lengths[0], 0] = reset[lengths[0] - 1, B - 1] = True  # the seam's two sides
    reset[:, 1 % B] &= torch.rand(T, generator=g) < 0.2  # a stream that is hardly ever reset
    x, h_0, e = normal(T, B, D), normal(B, cell.d, N), normal(T, B, cell.d, N)
    return Case(cell, lengths, x, W, list(psi.values()), h_0, reset, e)


def through_time(case: Case) -> list[Tensor]:
    """Gradients of all parameters by backpropagation through every step of the joined streams."""
    parameters = [p.clone().requires_grad_() for p in case.parameters]
    by_name = dict(zip(case.names(), parameters, strict=True))
    h, states = list(case.h_0.unbind(1)), []
    for x, reset in zip(case.x, case.reset, strict=True):
        h = [torch.where(reset[:, None], torch.zeros_like(s), s) for s in h]
        u = {name: torch.einsum("bd,nd->bn", x, by_name[name]) for name in case.cell.gates}
        h = STEPS[case.cell.name](u, h, by_name)
        states.append(torch.stack(h, 1))
    total = torch.stack([case.loss(torch.stack(states[chunk]), chunk) for chunk in case.chunks()]).sum()
    return list(torch.autograd.grad(total, parameters))


def chunk_by_chunk(case: Case, backend: str, banked: bool) -> list[Tensor]:
    """The sum over chunks of each chunk's own gradient, the traces carried as rows of a bank or gathered."""
    dtype = torch.float32 if backend == "triton" else torch.float64
    device = "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"
    parameters = [p.to(device, dtype).requires_grad_() for p in case.parameters]
    K, cell, faults = len(case.W), case.cell, case.faults
    _, B, D = case.x.shape
    N = case.h_0.shape[2]
    rows = torch.randperm(B + 2, generator=torch.Generator().manual_seed(1))[:B]
    trace = Trace.zeros(cell, B + 2 if banked else B, N, D, device, dtype)
    total = [torch.zeros_like(p) for p in parameters]
    h_0 = case.h_0.to(device, dtype)
    for chunk in case.chunks():
        reset = case.reset[chunk].to(device).clone()
        if faults.keep_through_reset:
            h_0 = torch.where(reset[0][:, None, None], torch.zeros_like(h_0), h_0)
            reset[0] = False
        if faults.reset_late:
            reset = torch.cat([torch.zeros_like(reset[:1]), reset[:-1]])
        given: Any = BankedTrace(trace, rows) if banked else trace
        if faults.forget_trace and not banked:
            given = trace.map(torch.zeros_like)
        x = case.x[chunk].to(device, dtype)
        h_0 = h_0.detach().requires_grad_()
        h, advanced = rtrl_scan(cell, x, parameters[:K], parameters[K:], h_0, reset, given, backend)
        loss = _loss(case, h, chunk)
        before = trace.map(lambda s: s[rows].clone()) if banked else trace
        *gradients, lam_0 = torch.autograd.grad(loss, [*parameters, h_0])
        for mine, gradient in zip(total, gradients, strict=True):
            mine += gradient
        if faults.boundary_twice:
            whole = cell.whole(before.matrices)[..., :D]
            total[0] += torch.einsum("bin,bkind->knd", lam_0, whole)[0]
        if not banked:
            trace = advanced
        h_0 = h[-1].detach()
    return total


def _loss(case: Case, h: Tensor, chunk: slice) -> Tensor:
    return (case.e[chunk].to(h) * h).sum() + (h[-1] ** 3).sum()


def errors(case: Case, ours: list[Tensor], truth: list[Tensor]) -> dict[str, float]:
    """Of each parameter by name: largest error of an entry, in units of the parameter's largest entry."""
    return {
        name: float((a.cpu().double() - b).abs().max() / b.abs().max().clamp(min=1e-30))
        for name, a, b in zip(case.names(), ours, truth, strict=True)
    }
