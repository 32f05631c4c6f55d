"""Who answers "what to do with these observations": the seam between stepping envs and running a network.

    submit(group, what arrived) -> take(group) -> actions          once a step
    state(group)                                                   once a rollout

Recurrent states and previous actions stay here, on the policy's device; a group of slots is submitted and
taken as one. Each actor carries its own copy of the policy (`LocalInference`), on the CPU or on a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.policy import Policy
from actors.rollout import map_observation
from actors.weights import WeightSource
from envs.spec import Observation

ArrayState = tuple[NDArray[np.float32], ...]


class Decision(NamedTuple):
    """One action for every slot of a group. Valid until the group is submitted again."""

    action: NDArray[Any]
    """[E] or [E, A], as the wire carries it."""
    env_action: NDArray[Any]
    """The same as the env takes it."""
    logits: NDArray[np.float32]
    """[E, P] parameters of the distribution that it was drawn from."""
    value: NDArray[np.float32]
    """[E] value estimate of the observation."""
    version: int
    """Version of the weights that chose."""


class DivergedError(RuntimeError):
    """The policy's answers are not finite: training has diverged, and no action can be drawn."""


class Inference(Protocol):
    def open(self, slots: int) -> int:
        """A new group of so many slots: its number. States and previous actions are zero, draws its own."""
        ...

    def refresh(self) -> None:
        """Takes the newest weights, if there are newer ones. Called between rollouts."""
        ...

    def submit(
        self, group: int, observation: Observation, reward: NDArray[np.float32], reset: NDArray[np.bool_]
    ) -> None:
        """What arrived at the group's slots. The arrays may be used again once it returns. Raises
        DivergedError, on the CPU; a GPU ends the process where it draws an action."""
        ...

    def take(self, group: int) -> Decision:
        """The answer to the last `submit`."""
        ...

    def state(self, group: int) -> ArrayState:
        """A copy of the recurrent state before the next observation, each array [E, ...]."""
        ...

    def previous_action(self, group: int) -> NDArray[Any]:
        """A copy of the last action of each slot; zeros before the first."""
        ...

    def keep(self, group: int, slots: NDArray[np.bool_]) -> None:
        """Forgets all slots of the group but these."""
        ...

    def state_dict(self, group: int) -> dict[str, NDArray[Any]]:
        """All that decides the group's next actions, weights and inputs aside: a run resumes bit for bit."""
        ...

    def load_state_dict(self, group: int, state: dict[str, NDArray[Any]]) -> None: ...


@dataclass(slots=True)
class _Group:
    """Of E slots, on the device."""

    state: tuple[Tensor, ...]
    action: Tensor
    generator: torch.Generator
    inputs: Any = None
    """Observation, reward and reset where they are copied to; None where they are read as they come."""
    graph: Any = None
    submitted: int = 0
    outputs: tuple[Tensor, ...] = ()
    """Action, env action, logits, value."""
    host: tuple[Tensor, ...] = ()
    """The same, on their way to this process."""
    arrived: Any = field(default=None)
    """A CUDA event after which `host` holds them."""


WARM_UP = 3
"""Steps after which a group's computation is recorded as a CUDA graph."""


class LocalInference:
    """The policy in this process, with weights pulled from a source.

    greedy: the distribution's mode instead of a sampled action (ties go to the lowest index).
    device: where the policy is. On the CPU inputs are read where they lie; on another device they are copied
    to places that stay, and on a GPU the step is recorded as a CUDA graph and replayed.
    fixed: those places on the CPU too, for tests.
    """

    def __init__(
        self,
        policy: Policy,
        source: WeightSource | None,
        *,
        seed: int,
        greedy: bool = False,
        device: torch.device | str = "cpu",
        fixed: bool = False,
    ) -> None:
        self._device = torch.device(device)
        self._policy = policy.eval().to(self._device)
        self._source = source
        self._greedy = greedy
        self._fixed = fixed or self._device.type != "cpu"
        self._version = -1 if source is not None else 0
        self._seed = seed
        self._groups: list[_Group] = []
        # A snapshot is copied straight into the parameters, through NumPy views of them or of a copy at hand.
        self._weights = policy.state_dict()
        self._at_hand = {name: self._host(tensor) for name, tensor in self._weights.items()}

    def _host(self, tensor: Tensor) -> Tensor:
        """A place for the tensor's values in this process: itself on the CPU, pinned memory for a GPU."""
        if tensor.device.type == "cpu":
            return tensor
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")

    @torch.inference_mode()
    def open(self, slots: int) -> int:
        number, distribution = len(self._groups), self._policy.distribution
        dtype = getattr(torch, distribution.action_dtype)
        action = torch.zeros(slots, *distribution.action_shape, dtype=dtype, device=self._device)
        generator = torch.Generator(self._device).manual_seed(group_seed(self._seed, number))
        self._groups.append(_Group(self._policy.initial_state(slots), action, generator))
        return number

    @property
    def version(self) -> int:
        """Of the weights; -1 before the first of a source."""
        return self._version

    def refresh(self) -> None:
        snapshot = self._source.fetch(self._version) if self._source is not None else None
        if snapshot is None:
            if self._version < 0:
                raise RuntimeError("no weights were published yet: publish once before the actors start")
            return
        arrays = snapshot.arrays
        if arrays.keys() != self._weights.keys():
            different = sorted(arrays.keys() ^ self._weights.keys())
            raise ValueError(f"weights of another network were published: {different[0]!r} does not match")
        for name, weight in self._weights.items():
            np.copyto(self._at_hand[name].numpy(), arrays[name])
            if weight is not self._at_hand[name]:
                weight.copy_(self._at_hand[name])
        self._version = snapshot.version

    @torch.inference_mode()
    def submit(
        self, group: int, observation: Observation, reward: NDArray[np.float32], reset: NDArray[np.bool_]
    ) -> None:
        its = self._groups[group]
        given = {"observation": observation, "reward": reward, "reset": reset}
        inputs = {name: map_observation(torch.from_numpy, arrays) for name, arrays in given.items()}
        if self._fixed:
            if its.inputs is None:
                its.inputs = {name: map_observation(self._place, value) for name, value in inputs.items()}
            for name, value in inputs.items():
                map_observation(Tensor.copy_, its.inputs[name], value)
            inputs = its.inputs
        if its.graph is not None:
            its.graph.replay()
        elif self._device.type == "cuda" and its.submitted == WARM_UP:
            self._record(its)
        else:
            self._decide(its, inputs)
        its.submitted += 1
        if self._device.type == "cpu":
            its.host = its.outputs
            return
        its.host = its.host or tuple(self._host(tensor) for tensor in its.outputs)
        for there, here in zip(its.outputs, its.host, strict=True):
            here.copy_(there, non_blocking=True)
        if self._device.type == "cuda":
            its.arrived = its.arrived or torch.cuda.Event()
            its.arrived.record()

    def _place(self, tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device=self._device)

    def _decide(self, its: _Group, inputs: dict[str, Any]) -> None:
        """The step itself, on the device: it reads the inputs, and moves state and action on in place."""
        distribution = self._policy.distribution
        step = self._policy.step(
            inputs["observation"], inputs["reward"], inputs["reset"], its.state, its.action
        )
        if step.logits.device.type == "cpu" and not math.isfinite(step.logits.sum()):
            raise DivergedError(
                f"the policy's outputs are not finite, by weights of version {self._version}: training has "
                "diverged. A lower learning_rate may help, or grad_norm_clipping; a core with "
                "policy.rotation.radius = 'exp' may leave the unit circle, one with 'exp_exp' cannot"
            )
        if self._greedy:
            action = distribution.mode(step.logits)
        else:
            action = distribution.sample(step.logits, its.generator)
        for kept, new in zip(its.state, step.state, strict=True):
            kept.copy_(new)
        its.action.copy_(action)
        its.outputs = (action, distribution.to_env(action), step.logits, step.baseline)

    def _record(self, its: _Group) -> None:
        """Recording runs nothing, so that what was recorded is then replayed once."""
        its.graph = torch.cuda.CUDAGraph()
        its.graph.register_generator_state(its.generator)
        with torch.cuda.graph(its.graph):
            self._decide(its, its.inputs)
        its.graph.replay()

    def take(self, group: int) -> Decision:
        its = self._groups[group]
        if its.arrived is not None:
            its.arrived.synchronize()
        action, env_action, logits, value = (tensor.numpy() for tensor in its.host)
        return Decision(action, env_action, logits, value, self._version)

    def state(self, group: int) -> ArrayState:
        return tuple(tensor.cpu().numpy().copy() for tensor in self._groups[group].state)

    def previous_action(self, group: int) -> NDArray[Any]:
        return self._groups[group].action.cpu().numpy().copy()

    @torch.inference_mode()
    def keep(self, group: int, slots: NDArray[np.bool_]) -> None:
        old, kept = self._groups[group], torch.from_numpy(slots).to(self._device)
        state = tuple(tensor[kept] for tensor in old.state)
        self._groups[group] = _Group(state, old.action[kept], old.generator)

    def state_dict(self, group: int) -> dict[str, NDArray[Any]]:
        state = {f"state/{i}": array for i, array in enumerate(self.state(group))}
        randomness = self._groups[group].generator.get_state().numpy()
        return state | {"previous_action": self.previous_action(group), "randomness": randomness}

    @torch.inference_mode()
    def load_state_dict(self, group: int, state: dict[str, NDArray[Any]]) -> None:
        its = self._groups[group]
        for i, tensor in enumerate(its.state):
            tensor.copy_(torch.tensor(state[f"state/{i}"]))
        its.action.copy_(torch.tensor(state["previous_action"]))
        its.generator.set_state(torch.tensor(state["randomness"]))


def group_seed(seed: int, group: int) -> int:
    """Seeds of an actor's groups: apart from each other, and the actor's own for the first."""
    return int(np.random.SeedSequence([seed, group]).generate_state(1, np.uint64)[0]) if group else seed
