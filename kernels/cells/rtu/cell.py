"""Recurrent trace units and the linear recurrent unit: a scaled rotation of two numbers a unit. README.md has
them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.rtrl.cell import Cell, register

ACTIVATIONS = ("relu", "tanh", "linear")
RADII = ("exp_exp", "exp")
ANGLES = ("exp", "direct")


class RotationCell(Cell):
    """h <- f(R h + gamma u), with R = r [[cos theta, -sin theta], [sin theta, cos theta]] of each unit.

    arXiv 2409.01449: the linear RTU (f: none) and the non-linear one (f on both numbers). Radius and angle by
    their parameters nu_log and theta_log: "exp_exp" r = exp(-exp(nu)), "exp" r = exp(-nu); "exp" theta =
    exp(.), "direct" theta itself. gamma = sqrt(1 - r^2), or free: exp(gamma_log), the LRU's (arXiv
    2303.06349).

    Of a linear one the trace of W_2 is that of W_1 turned by 90 degrees: one is stored.
    """

    d = 2
    gates = ("W_1", "W_2")

    def __init__(self, name: str, activation: str, radius: str, angle: str, tied: bool = True) -> None:
        self.name = name
        self.activation, self.radius, self.angle, self.tied = activation, radius, angle, tied
        self.vectors = ("nu_log", "theta_log") if tied else ("nu_log", "theta_log", "gamma_log")
        self.stored = 1 if activation == "linear" else None

    def _maps(self, psi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log r, theta and gamma."""
        log_r = -torch.exp(psi[0]) if self.radius == "exp_exp" else -psi[0]
        theta = torch.exp(psi[1]) if self.angle == "exp" else psi[1]
        return log_r, theta, torch.sqrt(-torch.expm1(2.0 * log_r)) if self.tied else torch.exp(psi[2])

    def equation(self, u: Tensor, before: Tensor, psi: Tensor) -> Tensor:
        log_r, theta, gamma = self._maps(psi)
        r = torch.exp(log_r)
        g, phi = r * torch.cos(theta), r * torch.sin(theta)
        c_1, c_2 = before[:, 0], before[:, 1]
        h = torch.stack([g * c_1 - phi * c_2 + gamma * u[:, 0], g * c_2 + phi * c_1 + gamma * u[:, 1]], 1)
        return {"relu": torch.relu, "tanh": torch.tanh}.get(self.activation, lambda s: s)(h)

    def constants(self, psi: Tensor) -> Tensor:
        """g, phi, gamma; the derivatives of log r by nu_log, of theta by theta_log, of gamma by its
        parameter."""
        log_r, theta, gamma = self._maps(psi)
        r = torch.exp(log_r)
        by_nu = log_r if self.radius == "exp_exp" else torch.full_like(log_r, -1.0)
        by_theta = theta if self.angle == "exp" else torch.ones_like(theta)
        by_gamma = -r * r * by_nu / gamma if self.tied else gamma
        return torch.stack([r * torch.cos(theta), r * torch.sin(theta), gamma, by_nu, by_theta, by_gamma])

    def step(self, u: Tensor, before: Tensor, k: Sequence[Tensor], h: Tensor, extra: Tensor | None) -> None:
        g, phi, gamma, *_ = k
        torch.mul(before, g, out=h)
        h[:, 0].addcmul_(phi, before[:, 1], value=-1)
        h[:, 1].addcmul_(phi, before[:, 0])
        h.addcmul_(gamma, u)
        match self.activation:
            case "relu":
                h.relu_()
            case "tanh":
                h.tanh_()

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
        g, phi, gamma, by_nu, by_theta, by_gamma = k
        match self.activation:
            case "relu":
                rows.mul_((after > 0)[:, None])
            case "tanh":
                rows.mul_(torch.addcmul(after.new_ones(()), after, after, value=-1)[:, None])
        torch.mul(rows, gamma, out=q)
        v[:, :, 0 if self.tied else 2].addcmul_(torch.mul(rows, u[:, None]).sum(2), by_gamma)
        s_1, s_2 = rows[:, :, 0], rows[:, :, 1]
        turned = torch.mul(s_1, phi)
        s_1.mul_(g).addcmul_(s_2, phi)
        s_2.mul_(g).sub_(turned)
        # rows A is known now, and rows R h, rows R J h are products with it: R and the turn J commute.
        c_1, c_2 = before[:, None, 0], before[:, None, 1]
        v[:, :, 0].addcmul_(torch.mul(s_1, c_1).addcmul_(s_2, c_2), by_nu)
        v[:, :, 1].addcmul_(torch.mul(s_2, c_1).addcmul_(s_1, c_2, value=-1), by_theta)

    def fixed(self, k: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
        if self.activation != "linear":
            return None
        g, phi, gamma, *_ = k
        return torch.stack([torch.stack([g, -phi]), torch.stack([phi, g])]), gamma

    def sums(self, k: Sequence[Tensor], H: Tensor, moved: Tensor) -> Tensor:
        g, phi, gamma, by_nu, by_theta, by_gamma = k
        h_1, h_2 = g * H[:, 0] - phi * H[:, 1], g * H[:, 1] + phi * H[:, 0]
        nu, theta = torch.stack([h_1, h_2], 1) * by_nu, torch.stack([-h_2, h_1], 1) * by_theta
        scale = moved * (by_gamma / gamma)
        return torch.stack([nu + scale, theta] if self.tied else [nu, theta, scale], 2)

    def turn(self, lam_0: Tensor) -> Tensor:
        if self.stored is None:
            return lam_0[:, None]
        return torch.stack([lam_0, torch.stack([lam_0[:, 1], -lam_0[:, 0]], 1)], 1)

    def whole(self, matrices: Tensor) -> Tensor:
        if self.stored is None:
            return matrices
        S = matrices[:, 0]
        return torch.stack([S, torch.stack([-S[:, 1], S[:, 0]], 1)], 1)

    def triton(self) -> tuple[Any, Any]:
        from kernels.cells.rtu import triton

        return triton.STEPS[self.activation], triton.PULLS[self.activation, self.tied]


RTU = {
    (activation, radius, angle): register(
        RotationCell(f"rtu_{activation}/{radius}/{angle}", activation, radius, angle)
    )
    for activation in ACTIVATIONS
    for radius in RADII
    for angle in ANGLES
}
"""By activation, radius and angle."""
LRU = register(RotationCell("lru", "linear", "exp_exp", "exp", tied=False))
