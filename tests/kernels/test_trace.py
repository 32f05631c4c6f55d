"""The trace op against its formula, and, for two numbers of state a unit, against full backpropagation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.trace import advance_trace_
from kernels.trace.triton import advance_trace_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # without a GPU, Triton runs in its interpreter
EXACT = {"rtol": 1e-11, "atol": 1e-11}
SHAPES = [  # T, B, N, D, K, d, rows
    (5, 3, 20, 9, 2, 1, 6),
    (1, 3, 20, 9, 2, 1, 3),
    (5, 3, 20, 9, 2, 2, 4),
    (1, 4, 6, 37, 1, 2, 9),
    (35, 9, 70, 34, 3, 1, 11),
    (18, 2, 65, 33, 4, 2, 5),
    (17, 1, 1, 257, 1, 1, 1),
]


def make_arguments(T, B, N, D, K, d, rows, seed=0, dtype=torch.float64) -> list:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype).to(DEVICE)

    traces = [normal(rows, d, N, D) for _ in range(K)]
    chosen = torch.randperm(rows, generator=g)[:B]
    return [traces, chosen, normal(B, d, N), normal(B, d, d, N), normal(T, B, K, d, N), normal(T, B, D)]


def by_formula(traces, rows, lam_0, decay, update, x) -> tuple[Tensor, list[Tensor]]:
    """Column by column, in float64; returns the boundary term and the banks afterwards."""
    lam_0, decay, update, x = (v.double() for v in (lam_0, decay, update, x))
    banks = [s.double().clone() for s in traces]
    boundary = x.new_zeros(len(banks), *banks[0].shape[2:])
    for b, row in enumerate(rows.tolist()):
        for k, bank in enumerate(banks):
            before = bank[row].clone()
            for i in range(lam_0.shape[1]):
                boundary[k] += lam_0[b, i, :, None] * before[i]
                bank[row, i] = sum(decay[b, i, j, :, None] * before[j] for j in range(lam_0.shape[1]))
                for t in range(x.shape[0]):
                    bank[row, i] += torch.outer(update[t, b, k, i], x[t, b])
    return boundary, banks


def error(value: Tensor, truth: Tensor) -> float:
    return ((value.double() - truth).norm() / truth.norm()).item()


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("shape", SHAPES)
def test_torch_backends_equal_the_formula(backend, shape):
    arguments = make_arguments(*shape)
    boundary, banks = by_formula(*arguments)
    torch.testing.assert_close(advance_trace_(*arguments, backend=backend), boundary, **EXACT)
    for ours, truth in zip(arguments[0], banks, strict=True):
        torch.testing.assert_close(ours, truth, **EXACT)


@pytest.mark.parametrize("shape", SHAPES)
def test_triton_is_at_most_twice_as_far_from_float64_as_torch(shape, poison):
    ours, plain = (make_arguments(*shape, dtype=torch.float32) for _ in range(2))
    truth, banks = by_formula(*ours)
    boundary = advance_trace_(*ours, backend="triton")
    boundary_plain = advance_trace_(*plain, backend="reference")
    assert error(boundary, truth) <= 2 * error(boundary_plain, truth) + 2e-8  # one column: plain may be exact
    for value, value_plain, bank in zip(ours[0], plain[0], banks, strict=True):
        assert error(value, bank) <= 2 * error(value_plain, bank)


@pytest.mark.parametrize("backend", ["reference", "chunked", "triton"])
@pytest.mark.parametrize("state", [1, 2])
def test_rows_of_other_streams_are_untouched(backend, state):
    arguments = make_arguments(4, 2, 17, 5, 2, state, rows=7, dtype=torch.float32)
    before = [s.clone() for s in arguments[0]]
    advance_trace_(*arguments, backend=backend)
    others = [row for row in range(7) if row not in arguments[1].tolist()]
    for s, s_before in zip(arguments[0], before, strict=True):
        torch.testing.assert_close(s[others], s_before[others], rtol=0, atol=0)
        assert not torch.equal(s[arguments[1]], s_before[arguments[1]])


@pytest.mark.parametrize("backend", ["chunked", "triton"])
def test_the_same_call_gives_the_same_bits(backend):
    results = []
    for _ in range(2):
        arguments = make_arguments(20, 11, 40, 35, 2, 1, rows=11, dtype=torch.float32)
        results.append([advance_trace_(*arguments, backend=backend), *arguments[0]])
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("backend", ["reference", "chunked", "triton"])
@pytest.mark.parametrize("state", [1, 2])
def test_a_bfloat16_trace_is_advanced_in_float32_and_rounded_once(backend, state):
    arguments = make_arguments(6, 3, 20, 9, 2, state, rows=5, dtype=torch.float32)
    arguments[0] = [s.bfloat16() for s in arguments[0]]
    truth, banks = by_formula(*arguments)
    boundary = advance_trace_(*arguments, backend=backend)
    assert boundary.dtype == torch.float32
    assert error(boundary, truth) < 1e-6  # the bfloat16 trace is read exactly
    # Rounded to nearest, it is off by half a unit in the last of 8 bits; Triton's interpreter cuts it off.
    rtol = 2**-7 if backend == "triton" and DEVICE == "cpu" else 2**-8
    for s, bank in zip(arguments[0], banks, strict=True):
        assert s.dtype == torch.bfloat16
        torch.testing.assert_close(s.double(), bank, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("backend", ["chunked", "triton"])
@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_a_recurrent_trace_unit_gets_the_gradient_of_full_backpropagation(backend, activation):
    """Elelimy et al., NeurIPS 2024: two numbers a unit, rotated, driven by W1 and W2; over two chunks."""
    dtype = torch.float32 if backend == "triton" else torch.float64
    g = torch.Generator().manual_seed(3)
    T, B, N, D = 7, 3, 6, 5
    x, e = torch.randn(2 * T, B, D, generator=g), torch.randn(2 * T, B, 2, N, generator=g)
    x, e = x.to(DEVICE, dtype), e.to(DEVICE, dtype)
    W = (0.4 * torch.randn(2, N, D, generator=g)).to(DEVICE, dtype).requires_grad_()
    radius, angle = torch.rand(N, generator=g).to(DEVICE, dtype), torch.rand(N, generator=g).to(DEVICE, dtype)
    cos, sin = radius * angle.cos(), radius * angle.sin()
    rotation = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])  # [2, 2, N]
    reset = torch.zeros(2 * T, B, dtype=torch.bool, device=DEVICE)
    reset[[0, 3, T - 1, T, 2 * T - 1], [0, 1, 2, 0, 1]] = True

    def step(t: int, c: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        drive = torch.einsum("knd,bd->bkn", W, x[t])
        u = torch.einsum("ijn,bjn->bin", rotation, c * (~reset[t])[:, None, None]) + drive
        return (u.tanh(), 1 - u.tanh() ** 2) if activation == "tanh" else (u, torch.ones_like(u))

    c, losses = torch.zeros(B, 2, N, device=DEVICE, dtype=dtype), []
    for t in range(2 * T):
        c, _ = step(t, c, W)
        losses.append((e[t] * c).sum())
    truth = [torch.autograd.grad(sum(losses[h : h + T]), W, retain_graph=True)[0] for h in (0, T)]

    bank = [torch.zeros(B, 2, N, D, device=DEVICE, dtype=dtype) for _ in range(2)]
    c, rows = torch.zeros_like(c), torch.arange(B)
    for chunk in range(2):
        local, jacobian = [], []
        for t in range(chunk * T, chunk * T + T):
            c, slope = step(t, c, W.detach())
            # dc[i] / du[k]: input matrix k drives component k alone
            local.append(
                torch.stack([slope[:, k, None] * torch.eye(2).to(slope)[k, :, None] for k in (0, 1)], 1)
            )
            jacobian.append(slope[:, :, None] * rotation * (~reset[t])[:, None, None, None])
        lam = torch.zeros_like(c)
        P = torch.eye(2, device=DEVICE, dtype=dtype)[None, :, :, None].expand(B, 2, 2, N)
        gradient, update = torch.zeros_like(W), [torch.empty(0)] * T
        for t in reversed(range(T)):
            lam = lam + e[chunk * T + t]
            gradient = gradient + torch.einsum("bin,bkin,bd->knd", lam, local[t], x[chunk * T + t])
            update[t] = torch.einsum("bijn,bkjn->bkin", P, local[t])
            lam = torch.einsum("bijn,bin->bjn", jacobian[t], lam)
            P = torch.einsum("bijn,bjkn->bikn", P, jacobian[t])
        here = x[chunk * T : chunk * T + T]
        gradient = gradient + advance_trace_(bank, rows, lam, P, torch.stack(update), here, backend=backend)
        tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else EXACT
        torch.testing.assert_close(gradient, truth[chunk], **tolerance)


def test_every_guard_names_its_argument():
    def call(position: int, value: object, **options: object) -> Tensor:
        arguments = make_arguments(4, 2, 6, 5, 2, 1, rows=7, dtype=torch.float32)
        arguments[position] = value(arguments[position]) if callable(value) else value
        return advance_trace_(*arguments, **options)

    for position, value, message in (
        (0, lambda traces: traces * 3, r"^traces holds 6 matrices"),
        (0, lambda traces: [], r"^traces holds 0 matrices"),
        (0, lambda traces: [traces[0], traces[1][:, :, :-1]], r"^traces\[1\] has shape"),
        (0, lambda traces: [traces[0], traces[1][:-1]], r"^traces\[1\] has 6 rows"),
        (0, lambda traces: [traces[0], traces[1].double()], r"^traces\[1\] is torch.float64"),
        (0, lambda traces: [traces[0], traces[1].bfloat16()], r"^traces\[1\] is torch.bfloat16"),
        (0, lambda traces: [s.mT.contiguous().mT for s in traces], r"^traces\[0\] is not contiguous"),
        (0, lambda traces: [s.to("meta") for s in traces], r"^traces\[0\] is on meta"),
        (1, lambda rows: rows.int(), r"^rows is torch.int32 \[2\], expected int64"),
        (1, lambda rows: rows[:1], r"^rows has shape"),
        (1, torch.tensor([3, 7]), r"^rows names row 7, but the bank holds rows 0 to 6"),
        (1, torch.tensor([3, -1]), r"^rows names row -1"),
        (1, torch.tensor([3, 3]), r"^rows names row 3 twice"),
        (2, lambda lam: lam.expand(2, 3, 6), r"^lam_0 has shape"),
        (2, lambda lam: lam.double(), r"^lam_0 is torch.float64"),
        (3, lambda decay: decay[..., :-1], r"^decay has shape"),
        (4, lambda update: update[:, :, :1], r"^update has shape"),
        (5, lambda x: x[0], r"^x has shape"),
        (5, lambda x: x.half(), r"^x is torch.float16"),
    ):
        with pytest.raises(ValueError, match=message):
            call(position, value)
    with pytest.raises(ValueError, match=r"^backend = 'fast'"):
        call(1, torch.tensor([0, 1]), backend="fast")
    with pytest.raises(ValueError, match=r"^precision = 'fp8'"):
        call(1, torch.tensor([0, 1]), precision="fp8")
    with pytest.raises(ValueError, match=r"^x is torch.float64: backend 'triton' computes in float32"):
        advance_trace_(*make_arguments(4, 2, 6, 5, 2, 1, rows=7), backend="triton")


def test_a_batch_beyond_32_bit_offsets_is_refused():
    huge = torch.zeros(1, device=DEVICE).expand(2**15, 2**8, 2**8)
    traces, decay = [torch.zeros(1, 1, 4, 2**8, device=DEVICE)], torch.zeros(1, 1, 1, 4, device=DEVICE)
    with pytest.raises(ValueError, match=r"^x has 2147483648 elements"):
        advance_trace_triton(traces, torch.tensor([0]), None, decay, decay, huge)


def test_a_refused_call_has_written_nothing():
    arguments = make_arguments(4, 2, 6, 5, 2, 1, rows=7)
    before = [s.clone() for s in arguments[0]]
    arguments[1] = torch.tensor([3, 3])
    with pytest.raises(ValueError, match="twice"):
        advance_trace_(*arguments)
    assert all(torch.equal(s, s_before) for s, s_before in zip(arguments[0], before, strict=True))
