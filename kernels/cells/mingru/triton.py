"""minGRU's step and pullback of one unit; `cell.py` in scalar form."""

# Triton types a call of its own functions as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl  # noqa: F401, its interpreter looks for it

from kernels.blocks.triton import sigmoid


@triton.jit
def step(u, before, k):
    z, closed = sigmoid(u[0])
    moved = u[1] - before[0]
    return (before[0] + z * moved,), (z * closed * moved, z), ()


@triton.jit
def pull(row, u, before, after, extra, k):
    q_z, q_n = row[0] * u[0], row[0] * u[1]
    return (row[0] - q_n,), (q_z, q_n), ()
