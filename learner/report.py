"""What one update says of itself: gathered while it is launched, read when its numbers are on the host."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from learner.objectives import Loss
from learner.records.timing import Stopwatch
from learner.to_host import ToHost


class Report:
    """Of the update after `updates` others and `global_step` agent steps."""

    def __init__(self, updates: int, global_step: int) -> None:
        self.updates, self.global_step = updates, global_step
        self._names: tuple[str, ...] = ()
        self._losses: list[Tensor] = []
        """By gradient step: the loss's metrics, the gradient's norm, the loss itself."""
        self._told: dict[str, float] = {}
        self._more: dict[str, Tensor] = {}
        self._sent: ToHost | None = None
        self._watch: Stopwatch | None = None

    def add_loss(self, loss: Loss, grad_norm: Tensor, total: Tensor) -> None:
        """Of one gradient step. `total`: of the losses of all ranks, as `grad_norm` is of all gradients."""
        self._names = (*loss.metrics, "losses/grad_norm")
        self._losses.append(torch.stack([*loss.metrics.values(), grad_norm, total]))

    def add(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Of the whole update: numbers, or scalars on the device."""
        for name, value in metrics.items():
            if isinstance(value, Tensor):
                self._more[name] = value.detach()
            else:
                self._told[name] = value

    def send(self, watch: Stopwatch) -> None:
        """All is gathered: one transfer of one tensor, which is not waited for."""
        scalars = [torch.stack(self._losses).flatten(), *(value[None] for value in self._more.values())]
        self._sent = ToHost([torch.cat([part.to(torch.float64) for part in scalars])])
        self._watch = watch

    def read(self) -> tuple[dict[str, float], int | None]:
        """Waits for the numbers. Metrics, means over the gradient steps, and which of these steps was not
        finite, if one was; `error` says it in words."""
        assert self._sent is not None and self._watch is not None, "it was not sent"
        (numbers,) = self._sent.wait()
        rows = numbers[: len(self._losses) * (len(self._names) + 1)].view(len(self._losses), -1)
        self._rows: list[list[float]] = rows.tolist()
        means = rows[:, :-1].to(self._losses[0].dtype).mean(0).tolist()
        more = numbers[rows.numel() :].tolist()
        metrics = {
            **dict(zip(self._names, means, strict=True)),
            **dict(zip(self._more, more, strict=True)),
            **self._told,
            **self._watch.metrics(),
        }
        broken = (step for step, row in enumerate(self._rows) if not all(map(math.isfinite, row[-2:])))
        return metrics, next(broken, None)

    def error(self, step: int) -> str:
        """What was not finite, once it was read."""
        *values, norm, total = self._rows[step]
        parts = (f"{name.partition('/')[2]} {v}" for name, v in zip(self._names[:-1], values, strict=True))
        return (
            f"update {self.updates} at step {self.global_step}: loss {total}, gradient norm {norm} "
            f"({', '.join(parts)}); lower learning_rate or grad_norm_clipping, and check the env's "
            "rewards and observations"
        )
