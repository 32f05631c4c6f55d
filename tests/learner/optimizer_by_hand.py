"""RMSprop and Adam as their papers give them, the schedule and the clip, on NumPy arrays by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float64]]


class RMSprop:
    """Tieleman and Hinton, 2012, with momentum; epsilon is added outside the root.

    ms <- alpha ms + (1 - alpha) g^2,  v <- momentum v + g / (sqrt(ms) + epsilon),  w <- w - rate v
    """

    def __init__(self, *, alpha: float, epsilon: float, momentum: float) -> None:
        self.alpha, self.epsilon, self.momentum = alpha, epsilon, momentum
        self.ms: Arrays = {}
        self.v: Arrays = {}

    def step(self, weights: Arrays, gradients: Arrays, rates: dict[str, float]) -> None:
        for name, g in gradients.items():
            self.ms[name] = self.alpha * self.ms.get(name, 0.0 * g) + (1 - self.alpha) * g**2
            scaled = g / (np.sqrt(self.ms[name]) + self.epsilon)
            self.v[name] = self.momentum * self.v.get(name, 0.0 * g) + scaled
            weights[name] = weights[name] - rates[name] * self.v[name]


class Adam:
    """Kingma and Ba, arXiv 1412.6980, algorithm 1, with its betas of 0.9 and 0.999."""

    def __init__(self, *, epsilon: float) -> None:
        self.epsilon, self.t = epsilon, 0
        self.m: Arrays = {}
        self.v: Arrays = {}

    def step(self, weights: Arrays, gradients: Arrays, rates: dict[str, float]) -> None:
        self.t += 1
        for name, g in gradients.items():
            self.m[name] = 0.9 * self.m.get(name, 0.0 * g) + 0.1 * g
            self.v[name] = 0.999 * self.v.get(name, 0.0 * g) + 0.001 * g**2
            m_hat, v_hat = self.m[name] / (1 - 0.9**self.t), self.v[name] / (1 - 0.999**self.t)
            weights[name] = weights[name] - rates[name] * m_hat / (np.sqrt(v_hat) + self.epsilon)


def make(config: Any) -> RMSprop | Adam:
    if config.optimizer == "adam":
        return Adam(epsilon=config.epsilon)
    return RMSprop(alpha=config.alpha, epsilon=config.epsilon, momentum=config.momentum)


def norm(gradients: Arrays) -> float:
    return float(np.sqrt(sum((g**2).sum() for g in gradients.values())))


def clipped(gradients: Arrays, max_norm: float) -> Arrays:
    """Scaled down together, where they are longer than max_norm together."""
    scale = min(1.0, max_norm / max(norm(gradients), 1e-300))
    return {name: scale * g for name, g in gradients.items()}
