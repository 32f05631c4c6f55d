"""Blocks of units in Triton: planes as tuples, whose number is known when a kernel is compiled; and gates."""

# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false, reportOperatorIssue=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load(base, stride, mask, COUNT: tl.constexpr):
    """COUNT planes, `stride` apart, as a tuple."""
    planes = ()
    for i in tl.static_range(COUNT):
        planes = planes + (tl.load(base + i * stride, mask=mask, other=0.0),)  # noqa: RUF005
    return planes


@triton.jit
def store(base, stride, planes, mask, COUNT: tl.constexpr):
    """The counterpart of `load`."""
    for i in tl.static_range(COUNT):
        tl.store(base + i * stride, planes[i], mask=mask)


@triton.jit
def select(condition, planes, COUNT: tl.constexpr):
    """The planes where the condition holds, elsewhere zeros."""
    chosen = ()
    for i in tl.static_range(COUNT):
        chosen = chosen + (tl.where(condition, planes[i], 0.0),)  # noqa: RUF005
    return chosen


@triton.jit
def add(a, b, COUNT: tl.constexpr):
    """Plane by plane."""
    total = ()
    for i in tl.static_range(COUNT):
        total = total + (a[i] + b[i],)  # noqa: RUF005
    return total


@triton.jit
def full(plane, COUNT: tl.constexpr):
    """COUNT times the same plane."""
    planes = ()
    for _ in tl.static_range(COUNT):
        planes = planes + (plane,)  # noqa: RUF005
    return planes


@triton.jit
def tanh(u):
    """tanh(u) and its derivative, without cancellation at either end."""
    size = tl.abs(u)
    q = tl.exp(-2.0 * size)
    share = 1.0 / (1.0 + q)
    s = u * u
    near = size * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0 + s * (62.0 / 2835.0)))))
    value = tl.where(size < 0.25, near, (1.0 - q) * share)
    return tl.where(u < 0, -value, value), 4.0 * q * share * share


@triton.jit
def sigmoid(u):
    """sigm(u) and 1 - sigm(u), each to its own last bits."""
    q = tl.exp(-tl.abs(u))
    share = 1.0 / (1.0 + q)
    return tl.where(u < 0, q * share, share), tl.where(u < 0, share, q * share)
