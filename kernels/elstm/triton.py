"""The eLSTM's two scans as Triton kernels, a launch each; the trace's matrices go to kernels/trace.

A program owns a block of units of one stream and walks through time alone: the recurrence is elementwise.
Neither kernel knows about the other's arithmetic. The forward scan hands on the local derivatives, and
the reverse scan is that of any cell with one number of state a unit and two gates.
"""

# Triton types a launch, kernel[grid](...), as a call of the kernel's own Python function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.trace.reference import select_product as select_product_of
from kernels.trace.triton import advance_trace_triton, on_device_of, select_product

BLOCK = (
    64  # units a program: small, since a launch has few streams, and each program waits for memory T times
)
WARPS = 2
STAGES = 3


@triton.jit
def _tanh(u):
    """tanh(u) and its derivative, without cancellation at either end."""
    size = tl.abs(u)
    q = tl.exp(-2.0 * size)
    share = 1.0 / (1.0 + q)
    s = u * u
    near = size * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0 + s * (62.0 / 2835.0)))))
    value = tl.where(size < 0.25, near, (1.0 - q) * share)
    return tl.where(u < 0, -value, value), 4.0 * q * share * share


@triton.jit
def _sigmoid(u):
    """sigm(u) and 1 - sigm(u), each to its own last bits."""
    q = tl.exp(-tl.abs(u))
    share = 1.0 / (1.0 + q)
    return tl.where(u < 0, q * share, share), tl.where(u < 0, share, q * share)


@triton.jit
def forward_scan_kernel(
    u,  # [T, B, 2, N] projections of the inputs, biases included; replaced by the local derivatives
    w,  # [2, N]
    c_0,  # [B, N]
    reset,  # [T, B] uint8
    c,  # [T, B, N]
    a,  # [T, B, N]
    T,
    B,
    N,
    DERIVATIVES: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    b = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    w_z = tl.load(w + n, mask=inside, other=0.0)
    w_f = tl.load(w + N + n, mask=inside, other=0.0)
    state = tl.load(c_0 + b * N + n, mask=inside, other=0.0)
    for t in tl.range(0, T, num_stages=STAGES):
        row = (t * B + b).to(tl.int64)
        keep = tl.load(reset + row) == 0
        u_z = tl.load(u + row * (2 * N) + n, mask=inside, other=0.0)
        u_f = tl.load(u + row * (2 * N) + N + n, mask=inside, other=0.0)
        before = tl.where(keep, state, 0.0)
        z, slope = _tanh(u_z + w_z * before)
        f, closed = _sigmoid(u_f + w_f * before)
        moved = f * (before - z)
        state = z + moved
        tl.store(c + row * N + n, state, mask=inside)
        if DERIVATIVES:
            zi = closed * slope
            fi = closed * moved
            jacobian = f + zi * w_z + fi * w_f
            tl.store(u + row * (2 * N) + n, zi, mask=inside)
            tl.store(u + row * (2 * N) + N + n, fi, mask=inside)
            tl.store(a + row * N + n, tl.where(keep, jacobian, 0.0), mask=inside)


@triton.jit
def reverse_scan_kernel(
    e,  # [T, B, N] dL/dc_t, direct
    local,  # [T, B, 2, N]
    a,  # [T, B, N]
    c,  # [T, B, N]
    c_0,  # [B, N]
    reset,  # [T, B] uint8
    s_w_z,
    s_w_f,
    s_b_z,
    s_b_f,  # vectors of the trace [rows, N]; SUFFIX advances them in place
    rows,  # [B] int64
    d,  # [T, B, 2, N] out: lam_t local_t
    p,  # [T, B, 2, N] out: P_t local_t
    lam_0,  # [B, N] out
    P_0,  # [B, N] out
    gradient,  # [B, 4, N] out: of w_z, w_f, b_z, b_f, a stream each
    T,
    B,
    N,
    ADJOINT: tl.constexpr,
    SUFFIX: tl.constexpr,
    BOUNDARY: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    b = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    zero = tl.zeros([BLOCK], tl.float32)
    first = tl.load(c_0 + b * N + n, mask=inside, other=0.0)
    lam, P = zero, zero + 1.0
    g_w_z, g_w_f, g_b_z, g_b_f = zero, zero, zero, zero
    q_w_z, q_w_f, q_b_z, q_b_f = zero, zero, zero, zero
    for back in tl.range(0, T, num_stages=STAGES):
        t = T - 1 - back
        row = (t * B + b).to(tl.int64)
        keep = tl.load(reset + row) == 0
        zi = tl.load(local + row * (2 * N) + n, mask=inside, other=0.0)
        fi = tl.load(local + row * (2 * N) + N + n, mask=inside, other=0.0)
        a_t = tl.load(a + row * N + n, mask=inside, other=0.0)
        earlier = tl.load(c + (row - B) * N + n, mask=inside & (t > 0), other=0.0)
        before = tl.where(keep, tl.where(t > 0, earlier, first), 0.0)
        if ADJOINT:
            lam += tl.load(e + row * N + n, mask=inside, other=0.0)
            d_z, d_f = lam * zi, lam * fi
            tl.store(d + row * (2 * N) + n, d_z, mask=inside)
            tl.store(d + row * (2 * N) + N + n, d_f, mask=inside)
            g_w_z += d_z * before
            g_w_f += d_f * before
            g_b_z += d_z
            g_b_f += d_f
            lam *= a_t
        if SUFFIX:
            p_z, p_f = P * zi, P * fi
            tl.store(p + row * (2 * N) + n, p_z, mask=inside)
            tl.store(p + row * (2 * N) + N + n, p_f, mask=inside)
            q_w_z += p_z * before
            q_w_f += p_f * before
            q_b_z += p_z
            q_b_f += p_f
            P *= a_t

    out = b * N + n
    if BOUNDARY or SUFFIX:
        stream = tl.load(rows + b) * N + n
        old_w_z = tl.load(s_w_z + stream, mask=inside, other=0.0)
        old_w_f = tl.load(s_w_f + stream, mask=inside, other=0.0)
        old_b_z = tl.load(s_b_z + stream, mask=inside, other=0.0)
        old_b_f = tl.load(s_b_f + stream, mask=inside, other=0.0)
        if BOUNDARY:
            g_w_z += select_product(lam, old_w_z)
            g_w_f += select_product(lam, old_w_f)
            g_b_z += select_product(lam, old_b_z)
            g_b_f += select_product(lam, old_b_f)
        if SUFFIX:
            tl.store(s_w_z + stream, select_product(P, old_w_z) + q_w_z, mask=inside)
            tl.store(s_w_f + stream, select_product(P, old_w_f) + q_w_f, mask=inside)
            tl.store(s_b_z + stream, select_product(P, old_b_z) + q_b_z, mask=inside)
            tl.store(s_b_f + stream, select_product(P, old_b_f) + q_b_f, mask=inside)
            tl.store(P_0 + out, P, mask=inside)
    if ADJOINT:
        tl.store(lam_0 + out, lam, mask=inside)
        of_stream = gradient + b * (4 * N) + n
        tl.store(of_stream, g_w_z, mask=inside)
        tl.store(of_stream + N, g_w_f, mask=inside)
        tl.store(of_stream + 2 * N, g_b_z, mask=inside)
        tl.store(of_stream + 3 * N, g_b_f, mask=inside)


def _grid(B: int, N: int) -> tuple[int, int]:
    return -(-N // BLOCK), B


def _precision() -> str:
    """The trace's products follow torch's setting for float32 matrix products."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def forward(
    x: Tensor, W: Tensor, w: Tensor, b: Tensor, c_0: Tensor, reset: Tensor, derivatives: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As `kernels.elstm.chunked.forward`."""
    T, B, D = x.shape
    N = w.shape[1]
    u = torch.addmm(b.flatten(), x.reshape(T * B, D), W.flatten(0, 1).T).view(T, B, 2, N)
    c = x.new_empty(T, B, N)
    a = x.new_empty(T if derivatives else 0, B, N)
    with on_device_of(x):
        forward_scan_kernel[_grid(B, N)](
            u, w, c_0.contiguous(), reset.contiguous().view(torch.uint8), c, a, T, B, N,
            DERIVATIVES=derivatives, BLOCK=BLOCK, STAGES=STAGES, num_warps=WARPS,
        )  # fmt: skip
    return c, u, a


def _reverse_scan(
    e: Tensor | None,
    c: Tensor,
    c_0: Tensor,
    reset: Tensor,
    local: Tensor,
    a: Tensor,
    trace: list[Tensor],
    rows: Tensor | None,
    advance: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """d, p, lam_0, P_0 and the vectors' gradient [4, N]; what was not asked for is uninitialised."""
    T, B, N = c.shape
    adjoint, boundary = e is not None, e is not None and bool(trace)
    d = torch.empty_like(local) if adjoint else local
    p = torch.empty_like(local) if advance else local
    lam_0, P_0, gradient = torch.empty_like(c_0), torch.empty_like(c_0), c.new_empty(B, 4, N)
    vectors = [s.contiguous() for s in trace[2:]] if trace else [c_0] * 4
    if rows is None:
        rows = torch.arange(B, device=c.device)
    e = c if e is None else e.contiguous()
    reset = reset.contiguous().view(torch.uint8)
    with on_device_of(c):
        reverse_scan_kernel[_grid(B, N)](
            e, local, a, c, c_0.contiguous(), reset, *vectors, rows, d, p, lam_0, P_0, gradient, T, B, N,
            ADJOINT=adjoint, SUFFIX=advance, BOUNDARY=boundary, BLOCK=BLOCK, STAGES=STAGES, num_warps=WARPS,
        )  # fmt: skip
    return d, p, lam_0, P_0, gradient.sum(0) if adjoint else gradient


def backward(
    e: Tensor,
    x: Tensor,
    W: Tensor,
    c: Tensor,
    c_0: Tensor,
    reset: Tensor,
    local: Tensor,
    a: Tensor,
    trace: list[Tensor],
    rows: Tensor | None,
    need_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As `kernels.elstm.chunked.backward`."""
    T, B, D = x.shape
    N = W.shape[1]
    in_place = rows is not None
    d, p, lam_0, P_0, vectors = _reverse_scan(e, c, c_0, reset, local, a, trace, rows, in_place)
    flat = d.view(T * B, 2 * N)
    grad_x = (flat @ W.flatten(0, 1)).view(T, B, D) if need_x else x.new_empty(0)
    grad_W = (flat.T @ x.reshape(T * B, D)).view(2, N, D)
    if rows is not None:
        banks = [s[:, None] for s in trace[:2]]
        grad_W += advance_trace_triton(
            banks, rows, lam_0[:, None], P_0[:, None, None], p[:, :, :, None], x, _precision()
        )
    elif trace:
        grad_W += torch.stack([select_product_of(lam_0[:, :, None], s).sum(0) for s in trace[:2]])
    return grad_x, grad_W, vectors[:2], vectors[2:].clone(), lam_0


def advance(
    x: Tensor,
    c: Tensor,
    c_0: Tensor,
    reset: Tensor,
    local: Tensor,
    a: Tensor,
    trace: list[Tensor],
) -> list[Tensor]:
    """As `kernels.elstm.chunked.advance`."""
    advanced = [s.clone(memory_format=torch.contiguous_format) for s in trace]
    _, p, _, P_0, _ = _reverse_scan(None, c, c_0, reset, local, a, advanced, None, advance=True)
    rows = torch.arange(x.shape[1], device=x.device)
    banks = [s[:, None] for s in advanced[:2]]
    advance_trace_triton(banks, rows, None, P_0[:, None, None], p[:, :, :, None], x, _precision())
    return advanced
