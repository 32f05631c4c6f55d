"""What matrix units make of float32 products, emulated: `python -m tests.kernels.precision` prints errors.

    tf32      both factors cut to 11 bits
    tf32x3    each factor is a rounded one of 11 bits and a rest of 11; three of the four products are formed

Products of 8 steps and their sum are exact; the float32 accumulator is cut toward zero after each. Units that
keep more bits are better than this. The emulation is NumPy on bits; no Triton is in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEPS = 8
Floats = NDArray[np.float32]


def _cut(v: Floats) -> Floats:
    return (v.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def _rounded(v: Floats) -> Floats:
    return ((v.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def product(update: Floats, x: Floats, precision: str) -> Floats:
    """update [T, N], x [T, D] -> update^T x [N, D]."""
    update, x = np.ascontiguousarray(update), np.ascontiguousarray(x)
    if precision == "tf32":
        pairs = [(_cut(update), _cut(x))]
    else:
        large, large_x = _rounded(update), _rounded(x)
        rest, rest_x = _rounded(update - large), _rounded(x - large_x)
        pairs = [(rest, large_x), (large, rest_x), (large, large_x)]
    total = np.zeros((update.shape[1], x.shape[1]), np.float32)
    for start in range(0, len(x), STEPS):
        steps = slice(start, start + STEPS)
        for a, b in pairs:
            exact = total + a[steps].astype(np.float64).T @ b[steps].astype(np.float64)
            nearest = exact.astype(np.float32)
            total = np.where(np.abs(nearest) > np.abs(exact), np.nextafter(nearest, np.float32(0)), nearest)
    return total


def advance_error(T: int, precision: str, seed: int = 0) -> float:
    """Relative error, in norm, of decay * S + update^T x over T steps; "float32": by BLAS."""
    rng = np.random.default_rng(seed)
    update, x, S, decay = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((T, 64), (T, 272), (64, 272), (64, 1))
    )
    ours = (update.T @ x if precision == "float32" else product(update, x, precision)) + decay * S
    wide = [v.astype(np.float64) for v in (update, x, decay, S)]
    truth = wide[0].T @ wide[1] + wide[2] * wide[3]
    return float(np.linalg.norm(ours - truth) / np.linalg.norm(truth))


if __name__ == "__main__":
    for T in (1, 10, 50, 100):
        errors = (f"{name} {advance_error(T, name):.1e}" for name in ("float32", "tf32x3", "tf32"))
        print(f"T = {T}: {', '.join(errors)}")
