"""What a cell must tell to be trained by exact RTRL: its step, and the step's pullback.

A cell is element-wise: unit n keeps d numbers of state and reads its own state and its own K pre-activations

    u^k = W^k x (+ b^k)        h_t = F(u_t, h_{t-1}; psi)        psi: V vectors [N], such as recurrent weights

so that the state's Jacobian is block-diagonal, d x d numbers a unit, and the sensitivity of the state to W^k
is [d, N, D], as large as W^k itself. All else (adjoint, suffix products, boundary term, the trace and its
bank) follows from F alone and is written once, in `chunked.py` and `triton.py`. README.md derives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Cell:
    """One kind of unit. A subclass gives `equation`; `step` and `pull` as derived from it are right, and
    slow.

    The shapes below are of one step of a batch: u [B, K, N], h [B, d, N], psi [V, N].
    """

    name: str
    """Key of the registry; of `policy.core`."""
    d: int
    """Numbers of state a unit: 1 or 2."""
    gates: tuple[str, ...]
    """Names of the K weight matrices; at most 4."""
    vectors: tuple[str, ...] = ()
    """Names of the V vectors, the rows of psi."""
    biases: slice | None = None
    """The rows of psi, one a gate, that are added to the projections before `step` sees them as u."""
    extra: int = 0
    """Planes [B, N] that `step` leaves for `pull`, besides what it leaves in u."""
    stored: int | None = None
    """Of how many matrices, the first ones, the traces are kept; None: of all. See `turn`."""

    def equation(self, u: Tensor, before: Tensor, psi: Tensor) -> Tensor:
        """F, by differentiable operations: h_t from u, biases included, and h_{t-1}."""
        raise NotImplementedError

    def constants(self, psi: Tensor) -> Tensor:
        """[C, N]: what `step` and `pull` read of psi, computed once a chunk; psi itself, if not
        overridden."""
        return psi

    def step(self, u: Tensor, before: Tensor, k: Sequence[Tensor], h: Tensor, extra: Tensor | None) -> None:
        """Writes h_t into h. k: the rows of `constants`.

        extra [B, extra, N], None where no gradient will be asked for: else what `pull` needs is left in it
        and in u, which may be overwritten."""
        h.copy_(self.equation(u, before, torch.stack(list(k))))

    def pull(
        self,
        rows: Tensor,
        u: Tensor,
        before: Tensor,
        after: Tensor,
        extra: Tensor,
        k: Sequence[Tensor],
        q: Tensor,
        v: Tensor,
    ) -> None:
        """The step's pullback, for R row vectors at once: with A = dh_t/dh_{t-1}, B^k = dh_t/du^k and
        C^m = dh_t/dpsi^m of every unit,

            q <- rows B  [B, R, K, N]        v += rows C  [B, R, V, N]        rows <- rows A  [B, R, d, N]

        before, after: h_{t-1} as `step` got it and h_t. u, extra: as `step` left them. The rows of v that
        belong to biases are left alone: their C is B, and the frame adds it."""
        spread = torch.stack(list(k))[:, None].expand(-1, u.shape[0], -1)  # a copy a stream
        pullback: Any = torch.func.vjp(self.equation, u, before, spread)[1]
        for r in range(rows.shape[1]):
            q[:, r], rows[:, r], by_psi = pullback(rows[:, r].clone())
            v[:, r] += by_psi.transpose(0, 1)

    def triton(self) -> tuple[Any, Any]:
        """The cell's `step` and `pull` as functions of Triton (kernels/rtrl/triton.py says of what), imported
        when they are asked for. A cell without them runs on backend "chunked"."""
        raise NotImplementedError(f"cell {self.name!r} has no Triton functions")

    def fixed(self, k: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
        """Of a cell that takes the same linear step every time, h = A h + beta u with K = d: A [d, d, N] and
        beta [N]. None: it does not. Its suffix products are powers of A, whatever the stream, and A commutes
        with its own derivatives (d = 1, or rotations): it also has `sums`."""
        return None

    def sums(self, k: Sequence[Tensor], H: Tensor, moved: Tensor) -> Tensor:
        """Of a `fixed` cell sum_t P_t C_t [B, d, V, N], from H = sum_t P_t h_{t-1} and what the inputs have
        moved the state by, sum_t P_t beta u_t = h_T - P_0 h_0, [B, d, N] both."""
        raise NotImplementedError

    @property
    def has_triton(self) -> bool:
        return type(self).triton is not Cell.triton

    def turn(self, lam_0: Tensor) -> Tensor:
        """[B, L, d, N], L = K / stored: the row vectors that meet the first stored matrix's trace to give the
        boundary terms of matrices 0 to L - 1. A rotation of lam_0 stands for the same rotation of the
        trace."""
        return lam_0[:, None]

    def whole(self, matrices: Tensor) -> Tensor:
        """The traces of all K matrices from those that are stored: [B, K', d, N, D'] -> [B, K, d, N, D']."""
        return matrices


CELLS: dict[str, Cell] = {}
"""Every cell by name. An op of torch.library names its cell by a string."""


def register(cell: Cell) -> Cell:
    if cell.d not in (1, 2) or not 1 <= len(cell.gates) <= 4:
        raise ValueError(
            f"cell {cell.name!r}: d = {cell.d}, {len(cell.gates)} gates; the frame has 1 or 2, 1 to 4"
        )
    if cell.stored is not None and len(cell.gates) % cell.stored:
        raise ValueError(
            f"cell {cell.name!r}: {len(cell.gates)} gates are no multiple of stored = {cell.stored}"
        )
    CELLS[cell.name] = cell
    return cell
