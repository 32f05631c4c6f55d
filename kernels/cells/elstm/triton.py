"""The eLSTM's step and pullback of one unit; `cell.py` in scalar form."""

# Triton types a call of its own functions as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl  # noqa: F401, its interpreter looks for it

from kernels.blocks.triton import sigmoid, tanh


@triton.jit
def step(u, before, k):
    z, slope = tanh(u[0] + k[0] * before[0])
    f, closed = sigmoid(u[1] + k[1] * before[0])
    moved = f * (before[0] - z)
    zi = closed * slope
    fi = closed * moved
    return (z + moved,), (zi, fi), (f + zi * k[0] + fi * k[1],)


@triton.jit
def pull(row, u, before, after, extra, k):
    q_z, q_f = row[0] * u[0], row[0] * u[1]
    return (row[0] * extra[0],), (q_z, q_f), (q_z * before[0], q_f * before[0])
