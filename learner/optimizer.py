"""RMSprop or Adam over the policy's weights, the encoder's at a learning rate of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from actors.policy import Policy
from configs.schema import Config
from learner.kept import Kept


class PolicyOptimizer:
    """A torch optimiser whose hyper-parameters are always those of `config`, after a resume too."""

    def __init__(self, policy: Policy, config: Config) -> None:
        encoder = list(policy.encoder.parameters())
        inside = {id(parameter) for parameter in encoder}
        rest = [parameter for parameter in policy.parameters() if id(parameter) not in inside]
        self._scales = [1.0, config.encoder_lr_scale]
        groups = [{"params": rest}, {"params": encoder}]
        self._optimizer = _make(groups, config)
        adam, momentum = config.optimizer == "adam", config.momentum > 0
        self._names = {"step", "exp_avg", "exp_avg_sq"} if adam else {"step", "square_avg"}
        """Of what is kept of a weight."""
        self._names |= {"momentum_buffer"} if momentum and not adam else set()

    def step(self, learning_rate: float, sound: Tensor) -> None:
        """One step along the gradients in `.grad`; weights without one (frozen) stay.

        sound [] bool, on the weights' device: where it is False nothing moves, neither weights nor moments. A
        GPU is not asked for it.
        """
        for group, scale in zip(self._optimizer.param_groups, self._scales, strict=True):
            group["lr"] = scale * learning_rate
        if isinstance(self._optimizer, torch.optim.Adam):  # as for gradient scaling, within the kernel
            self._optimizer.found_inf = (~sound).float()  # type: ignore[attr-defined]
            self._optimizer.step()
        elif sound.device.type == "cpu":  # nobody waits, and selecting would cost as much as the step
            if sound:
                self._optimizer.step()
        else:
            self._step_and_select(sound)

    def _step_and_select(self, sound: Tensor) -> None:
        """For an optimiser that cannot drop a step by itself."""
        known = self._moved(sound.device)
        kept = Kept(known.values())
        self._optimizer.step()
        new = {key: tensor for key, tensor in self._moved(sound.device).items() if key not in known}
        for tensor in new.values():  # moments begin at 0, with their weight's first step
            torch.where(sound, tensor, torch.zeros_like(tensor), out=tensor)
        kept.restore_unless(sound)

    def _moved(self, device: torch.device) -> dict[int, Tensor]:
        """What a step moves, by identity; not the count of steps on the host, which RMSprop does not read."""
        weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
        moments = [value for state in self._optimizer.state.values() for value in state.values()]
        tensors = (tensor for tensor in (*weights, *moments) if isinstance(tensor, Tensor))
        return {id(tensor): tensor for tensor in tensors if tensor.device == device}

    def zero_grad(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The moments of a saved run; its hyper-parameters are not taken over.

        Raises ValueError for moments of other weights: torch's fused step would write past their end.
        """
        weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
        for index, moments in state["state"].items():
            if moments.keys() != self._names:
                raise ValueError(f"weight {index} has {sorted(moments)}, not {sorted(self._names)}")
            for name, moment in moments.items():
                shape = torch.Size() if name == "step" else weights[index].shape
                if moment.shape != shape or not moment.is_floating_point() or (name == "step" and moment < 0):
                    raise ValueError(f"{name} of weight {index} is {moment}, not of {list(shape)}")
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
