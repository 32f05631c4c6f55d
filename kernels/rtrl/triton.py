"""The two scans of any cell as Triton kernels, a launch each; the trace's matrices go to kernels/trace.

A program owns a block of units of one stream and walks through time alone: the recurrence is element-wise.
What a step does, and how it pulls a row vector back, are two functions of the cell's own triton.py, compiled
into it:

    step(u, before, k) -> h, u, extra              tuples of K, d, C blocks -> of d, K, extra blocks pull(row,
    u, before, after, extra, k) -> row, q, v       as `Cell.pull`, of one row: tuples of d, K, V blocks
                                                             (V without the biases)
"""

# Triton types a launch, kernel[grid](...), as a call of the kernel's own Python function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.blocks.triton import add, full, load, select, store
from kernels.rtrl.cell import Cell
from kernels.rtrl.chunked import boundary_of_gathered
from kernels.trace.triton import advance_trace_triton, on_device_of, select_product

BLOCK = 64
"""Units a program: small, since a launch has few streams, and each program waits for memory T times."""
WARPS = 2
STAGES = 3


@triton.jit
def forward_scan_kernel(
    u,  # [T, B, K, N] projections of the inputs, biases included; replaced by what the cell's step leaves
    k,  # [C, N]
    h_0,  # [B, d, N]
    reset,  # [T, B] int32: words are fetched ahead, bytes are not
    h,  # [T, B, d, N] out
    extra,  # [T, B, E, N] out
    T,
    B,
    N,
    STEP: tl.constexpr,
    d: tl.constexpr,
    K: tl.constexpr,
    C: tl.constexpr,
    E: tl.constexpr,
    DERIVATIVES: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    b = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    constants = load(k + n, N, inside, C)
    state = load(h_0 + b * (d * N) + n, N, inside, d)
    for t in tl.range(0, T, num_stages=STAGES):
        row = (t * B + b).to(tl.int64)
        keep = tl.load(reset + row) == 0
        gates = load(u + row * (K * N) + n, N, inside, K)
        state, left, more = STEP(gates, select(keep, state, d), constants)
        store(h + row * (d * N) + n, N, state, inside, d)
        if DERIVATIVES:
            store(u + row * (K * N) + n, N, left, inside, K)
            store(extra + row * (E * N) + n, N, more, inside, E)


@triton.jit
def reverse_scan_kernel(
    e,  # [T, B, d, N] dL/dh_t, direct
    u,  # [T, B, K, N]
    extra,  # [T, B, E, N]
    k,  # [C, N]
    h,  # [T, B, d, N]
    h_0,  # [B, d, N]
    reset,  # [T, B] int32
    vectors,  # [rows, V, d, N]: of the trace; SUFFIX advances its rows in place
    rows,  # [B] int64
    q,  # [T, B, R, K, N] out: the rows times B; R = ADJOINT + d SUFFIX
    arrived,  # [B, R, d, N] out: lam_0, then P_0
    gradient,  # [B, V, N] out: of psi, a stream each
    T,
    B,
    N,
    PULL: tl.constexpr,
    d: tl.constexpr,
    K: tl.constexpr,
    C: tl.constexpr,
    E: tl.constexpr,
    V: tl.constexpr,  # vectors, biases included: these come last, if there are any
    BIASES: tl.constexpr,
    ADJOINT: tl.constexpr,
    SUFFIX: tl.constexpr,
    BOUNDARY: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    FIRST: tl.constexpr = 1 if ADJOINT else 0  # pyright: ignore
    R: tl.constexpr = FIRST + (d if SUFFIX else 0)  # pyright: ignore
    b = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = n < N
    zero = tl.zeros([BLOCK], tl.float32)
    one = zero + 1.0
    constants = load(k + n, N, inside, C)
    first = load(h_0 + b * (d * N) + n, N, inside, d)
    lam, g = full(zero, d), full(zero, V)
    # The rows of P, and what the chunk adds to the vectors of the trace in each component of the state.
    P_0, P_1 = (one,), full(zero, d)
    if d == 2:
        P_0, P_1 = (one, zero), (zero, one)
    s_0, s_1 = full(zero, V), full(zero, V)
    for back in tl.range(0, T, num_stages=STAGES):
        t = T - 1 - back
        row = (t * B + b).to(tl.int64)
        keep = tl.load(reset + row) == 0
        gates = load(u + row * (K * N) + n, N, inside, K)
        more = load(extra + row * (E * N) + n, N, inside, E)
        after = load(h + row * (d * N) + n, N, inside, d)
        earlier = load(h + (row - B) * (d * N) + n, N, inside & (t > 0), d)
        before = ()
        for i in tl.static_range(d):
            before = before + (tl.where(keep, tl.where(t > 0, earlier[i], first[i]), 0.0),)  # noqa: RUF005
        at_q = q + row * (R * K * N) + n
        if ADJOINT:
            lam = add(lam, load(e + row * (d * N) + n, N, inside, d), d)
            lam, by_u, by_psi = PULL(lam, gates, before, after, more, constants)
            store(at_q, N, by_u, inside, K)
            g = add(g, by_psi + by_u if BIASES else by_psi, V)
            lam = select(keep, lam, d)
        if SUFFIX:
            P_0, by_u, by_psi = PULL(P_0, gates, before, after, more, constants)
            store(at_q + FIRST * K * N, N, by_u, inside, K)
            s_0 = add(s_0, by_psi + by_u if BIASES else by_psi, V)
            P_0 = select(keep, P_0, d)
            if d == 2:
                P_1, by_u, by_psi = PULL(P_1, gates, before, after, more, constants)
                store(at_q + (FIRST + 1) * K * N, N, by_u, inside, K)
                s_1 = add(s_1, by_psi + by_u if BIASES else by_psi, V)
                P_1 = select(keep, P_1, d)

    out = arrived + b * (R * d * N) + n
    if ADJOINT:
        store(out, N, lam, inside, d)
    if SUFFIX:
        store(out + FIRST * d * N, N, P_0, inside, d)
        if d == 2:
            store(out + (FIRST + 1) * d * N, N, P_1, inside, d)
    if BOUNDARY or SUFFIX:
        stream = vectors + tl.load(rows + b) * (V * d * N) + n
    for m in tl.static_range(V):
        total = g[m]
        if BOUNDARY or SUFFIX:
            old = load(stream + m * (d * N), N, inside, d)  # pyright: ignore
            if BOUNDARY:
                total += select_product(lam[0], old[0])
                if d == 2:
                    total += select_product(lam[1], old[1])
            if SUFFIX:
                new_0 = s_0[m] + select_product(P_0[0], old[0])
                if d == 2:
                    new_0 += select_product(P_0[1], old[1])
                    new_1 = s_1[m] + select_product(P_1[0], old[0]) + select_product(P_1[1], old[1])
                    tl.store(stream + (m * d + 1) * N, new_1, mask=inside)  # pyright: ignore
                tl.store(stream + m * d * N, new_0, mask=inside)  # pyright: ignore
        if ADJOINT:
            tl.store(gradient + b * (V * N) + m * N + n, total, mask=inside)


def _grid(B: int, N: int) -> tuple[int, int]:
    return -(-N // BLOCK), B


def _words(reset: Tensor) -> Tensor:
    return reset.to(torch.int32, memory_format=torch.contiguous_format)


def _precision() -> str:
    """The trace's products: tf32 where torch forms float32 matrix products so, else tf32x3, which is as good
    as float32 (kernels/trace/README.md) and leaves no matrix unit idle. "ieee" is up to callers of the op."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


def forward(
    cell: Cell, x: Tensor, W: Tensor, psi: Tensor, h_0: Tensor, reset: Tensor, derivatives: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As `kernels.rtrl.chunked.forward`."""
    T, B, D = x.shape
    K, N, _ = W.shape
    flat, matrix = x.reshape(T * B, D), W.flatten(0, 1).T
    u = flat @ matrix if cell.biases is None else torch.addmm(psi[cell.biases].flatten(), flat, matrix)
    h = x.new_empty(T, B, cell.d, N)
    extra = x.new_empty(T if derivatives else 0, B, cell.extra, N)
    k = cell.constants(psi).contiguous()
    step, _ = cell.triton()
    with on_device_of(x):
        forward_scan_kernel[_grid(B, N)](
            u, k, h_0.contiguous(), _words(reset), h, extra, T, B, N,
            STEP=step, d=cell.d, K=K, C=k.shape[0], E=cell.extra, DERIVATIVES=derivatives,
            BLOCK=BLOCK, STAGES=STAGES, num_warps=WARPS,
        )  # fmt: skip
    return h, u.view(T, B, K, N), extra


def _reverse_scan(
    cell: Cell,
    e: Tensor | None,
    suffix: bool,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
    vectors: Tensor | None,
    rows: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows as they arrive [B, R, d, N], q [T, B, R, K, N], and the gradient of psi [B, V, N]; what was
    not asked for is uninitialised. With `suffix` the vectors' rows are advanced."""
    T, B, d, N = h.shape
    adjoint, boundary = e is not None, e is not None and vectors is not None
    R, V = adjoint + d * suffix, psi.shape[0]
    q = h.new_empty(T, B, R, u.shape[2], N)
    arrived, gradient = h.new_empty(B, R, d, N), h.new_empty(B, V, N)
    k = cell.constants(psi).contiguous()
    _, pull = cell.triton()
    if rows is None:
        rows = torch.arange(B, device=h.device)
    with on_device_of(h):
        reverse_scan_kernel[_grid(B, N)](
            h if e is None else e.contiguous(), u, extra, k, h, h_0.contiguous(),
            _words(reset), h if vectors is None else vectors, rows, q, arrived,
            gradient, T, B, N,
            PULL=pull, d=d, K=u.shape[2], C=k.shape[0], E=cell.extra, V=V, BIASES=cell.biases is not None,
            ADJOINT=adjoint, SUFFIX=suffix, BOUNDARY=boundary, BLOCK=BLOCK, STAGES=STAGES, num_warps=WARPS,
        )  # fmt: skip
    return arrived, q, gradient


def backward(
    cell: Cell,
    e: Tensor,
    x: Tensor,
    W: Tensor,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
    trace: list[Tensor],
    rows: Tensor | None,
    need_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `kernels.rtrl.chunked.backward`."""
    T, B, D = x.shape
    vectors = trace[1].contiguous() if trace else None
    arrived, q, gradient = _reverse_scan(
        cell, e, rows is not None, psi, h, h_0, reset, u, extra, vectors, rows
    )
    lam_0 = arrived[:, 0]
    flat = q[:, :, 0].flatten(2).flatten(0, 1)
    grad_x = (flat @ W.flatten(0, 1)).view(T, B, D) if need_x else x.new_empty(0)
    grad_W = (flat.T @ x.reshape(T * B, D)).view(W.shape)
    if trace:
        matrices, lam = trace[0], cell.turn(lam_0)
        if rows is not None:
            update = q[:, :, 1:, : matrices.shape[1]]
            grad_W += advance_trace_triton(matrices, rows, lam, arrived[:, 1:], update, x, _precision())
        else:
            grad_W += boundary_of_gathered(lam, matrices[..., :D])
    return grad_x, grad_W, gradient.sum(0), lam_0.clone()


def advance(
    cell: Cell,
    x: Tensor,
    psi: Tensor,
    h: Tensor,
    h_0: Tensor,
    reset: Tensor,
    u: Tensor,
    extra: Tensor,
    trace: list[Tensor],
) -> list[Tensor]:
    """As `kernels.rtrl.chunked.advance`."""
    matrices, vectors = (s.clone(memory_format=torch.contiguous_format) for s in trace)
    decay, q, _ = _reverse_scan(cell, None, True, psi, h, h_0, reset, u, extra, vectors, None)
    rows = torch.arange(x.shape[1], device=x.device)
    update = q[:, :, :, : matrices.shape[1]]
    advance_trace_triton(matrices, rows, None, decay, update, x, _precision())
    return [matrices, vectors]
