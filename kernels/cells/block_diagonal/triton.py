"""The free block's step and pullback of one unit; `cell.py` in scalar form."""

# Triton types a call of its own functions as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl  # noqa: F401, its interpreter looks for it

from kernels.blocks.triton import tanh


@triton.jit
def step(u, before, k):
    h_1, _ = tanh(u[0] + k[0] * before[0] + k[1] * before[1])
    h_2, _ = tanh(u[1] + k[2] * before[0] + k[3] * before[1])
    return (h_1, h_2), u, ()


@triton.jit
def pull(row, u, before, after, extra, k):
    q_1, q_2 = row[0] * (1.0 - after[0] * after[0]), row[1] * (1.0 - after[1] * after[1])
    arrived = (q_1 * k[0] + q_2 * k[2], q_1 * k[1] + q_2 * k[3])
    return arrived, (q_1, q_2), (q_1 * before[0], q_1 * before[1], q_2 * before[0], q_2 * before[1])
