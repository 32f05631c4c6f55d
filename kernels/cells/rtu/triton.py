"""Step and pullback of a rotating unit; `cell.py` in scalar form. k: the rows of `RotationCell.constants`."""

# Triton types a call of its own functions as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.blocks.triton import tanh


@triton.jit
def _turn(u, before, k):
    h_1 = k[0] * before[0] - k[1] * before[1] + k[2] * u[0]
    h_2 = k[0] * before[1] + k[1] * before[0] + k[2] * u[1]
    return h_1, h_2


@triton.jit
def step_linear(u, before, k):
    return _turn(u, before, k), u, ()


@triton.jit
def step_relu(u, before, k):
    h = _turn(u, before, k)
    # A NaN stays one, as in torch.relu.
    return (tl.where(h[0] < 0.0, 0.0, h[0]), tl.where(h[1] < 0.0, 0.0, h[1])), u, ()


@triton.jit
def step_tanh(u, before, k):
    h = _turn(u, before, k)
    h_1, _ = tanh(h[0])
    h_2, _ = tanh(h[1])
    return (h_1, h_2), u, ()


@triton.jit
def _pull(s_1, s_2, u, before, k):
    """Of the row after the activation's slope: row A, the gates' q, and what nu, theta and gamma gather."""
    r_1 = s_1 * k[0] + s_2 * k[1]
    r_2 = s_2 * k[0] - s_1 * k[1]
    by_nu = (r_1 * before[0] + r_2 * before[1]) * k[3]
    by_theta = (r_2 * before[0] - r_1 * before[1]) * k[4]
    by_gamma = (s_1 * u[0] + s_2 * u[1]) * k[5]
    return (r_1, r_2), (s_1 * k[2], s_2 * k[2]), by_nu, by_theta, by_gamma


@triton.jit
def pull_linear(row, u, before, after, extra, k):
    arrived, q, by_nu, by_theta, by_gamma = _pull(row[0], row[1], u, before, k)
    return arrived, q, (by_nu + by_gamma, by_theta)


@triton.jit
def pull_free(row, u, before, after, extra, k):
    arrived, q, by_nu, by_theta, by_gamma = _pull(row[0], row[1], u, before, k)
    return arrived, q, (by_nu, by_theta, by_gamma)


@triton.jit
def pull_relu(row, u, before, after, extra, k):
    s_1, s_2 = tl.where(after[0] > 0.0, row[0], 0.0), tl.where(after[1] > 0.0, row[1], 0.0)
    arrived, q, by_nu, by_theta, by_gamma = _pull(s_1, s_2, u, before, k)
    return arrived, q, (by_nu + by_gamma, by_theta)


@triton.jit
def pull_tanh(row, u, before, after, extra, k):
    s_1, s_2 = row[0] * (1.0 - after[0] * after[0]), row[1] * (1.0 - after[1] * after[1])
    arrived, q, by_nu, by_theta, by_gamma = _pull(s_1, s_2, u, before, k)
    return arrived, q, (by_nu + by_gamma, by_theta)


STEPS = {"linear": step_linear, "relu": step_relu, "tanh": step_tanh}
PULLS = {
    ("linear", True): pull_linear,
    ("linear", False): pull_free,
    ("relu", True): pull_relu,
    ("tanh", True): pull_tanh,
}
