"""RMSprop or Adam over the policy's weights, the encoder's at a learning rate of its own."""

from __future__ import annotations

from typing import Any

import torch

from actors.policy import Policy
from configs.schema import Config


class PolicyOptimizer:
    """A torch optimiser whose hyper-parameters are always those of `config`, after a resume too."""

    def __init__(self, policy: Policy, config: Config) -> None:
        encoder = list(policy.encoder.parameters())
        inside = {id(parameter) for parameter in encoder}
        rest = [parameter for parameter in policy.parameters() if id(parameter) not in inside]
        self._scales = [1.0, config.encoder_lr_scale]
        groups = [{"params": rest}, {"params": encoder}]
        self._optimizer = _make(groups, config)

    def step(self, learning_rate: float) -> None:
        """One step along the gradients in `.grad`; weights without one (frozen) stay."""
        for group, scale in zip(self._optimizer.param_groups, self._scales, strict=True):
            group["lr"] = scale * learning_rate
        self._optimizer.step()

    def zero_grad(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The moments of a saved run; its hyper-parameters are not taken over."""
        mine = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state["state"], "param_groups": mine})


def _make(groups: list[dict[str, Any]], config: Config) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.learning_rate, eps=config.epsilon, fused=True)
    return torch.optim.RMSprop(
        groups,
        lr=config.learning_rate,
        alpha=config.alpha,
        eps=config.epsilon,
        momentum=config.momentum,
    )
