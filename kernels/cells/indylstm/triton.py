"""IndyLSTM's step and pullback of one unit; `cell.py` in scalar form."""

# Triton types a call of its own functions as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl  # noqa: F401, its interpreter looks for it

from kernels.blocks.triton import sigmoid, tanh


@triton.jit
def step(u, before, k):
    i, _ = sigmoid(u[0] + k[0] * before[1])
    f, _ = sigmoid(u[1] + k[1] * before[1])
    g, _ = tanh(u[2] + k[2] * before[1])
    o, _ = sigmoid(u[3] + k[3] * before[1])
    c = f * before[0] + i * g
    squashed, _ = tanh(c)
    return (c, o * squashed), (i, f, g, o), (squashed,)


@triton.jit
def pull(row, u, before, after, extra, k):
    i, f, g, o = u[0], u[1], u[2], u[3]
    squashed = extra[0]
    q_o = row[1] * squashed * o * (1.0 - o)
    r = row[0] + row[1] * o * (1.0 - squashed * squashed)  # h_t is also a function of c_t
    q_i = r * g * i * (1.0 - i)
    q_f = r * before[0] * f * (1.0 - f)
    q_g = r * i * (1.0 - g * g)
    arrived = (r * f, q_i * k[0] + q_f * k[1] + q_g * k[2] + q_o * k[3])
    v = (q_i * before[1], q_f * before[1], q_g * before[1], q_o * before[1])
    return arrived, (q_i, q_f, q_g, q_o), v
