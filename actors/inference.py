"""Who answers "what to do with these observations": the seam between stepping envs and running a network.

Today each worker carries its own copy of the policy (`LocalInference`). A central GPU worker that
answers many env workers would implement the same `Inference` and change nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from actors.policy import Policy
from actors.rollout import map_observation
from actors.weights import WeightSource
from envs.spec import Observation

ArrayState = tuple[NDArray[np.float32], ...]


class Decision(NamedTuple):
    """One action for every slot."""

    action: NDArray[Any]
    """[E] or [E, A], as the wire carries it."""
    env_action: NDArray[Any]
    """The same as the env takes it."""
    logits: NDArray[np.float32]
    """[E, P] parameters of the distribution that it was drawn from."""
    state: ArrayState
    """Recurrent state after the observation."""
    version: int
    """Version of the weights that chose."""
    value: NDArray[np.float32]
    """[E] value estimate of the observation."""


class Inference(Protocol):
    def initial_state(self, batch: int) -> ArrayState: ...

    def initial_action(self, batch: int) -> NDArray[Any]:
        """What stands for the previous action where there is none: zeros."""
        ...

    def refresh(self) -> None:
        """Takes the newest weights, if there are newer ones. Called between rollouts."""
        ...

    def step(
        self,
        observation: Observation,
        reward: NDArray[np.float32],
        reset: NDArray[np.bool_],
        state: ArrayState,
        previous_action: NDArray[Any],
    ) -> Decision: ...

    @property
    def randomness(self) -> NDArray[np.uint8]:
        """State of the sampling generator; settable, so that an inline run resumes bit for bit."""
        ...

    @randomness.setter
    def randomness(self, state: NDArray[np.uint8]) -> None: ...


class LocalInference:
    """The policy in this process, on the CPU, with weights pulled from a source.

    greedy: the distribution's mode instead of a sampled action (ties go to the lowest index).
    """

    def __init__(
        self, policy: Policy, source: WeightSource | None, *, seed: int, greedy: bool = False
    ) -> None:
        self._policy = policy.eval()
        self._source = source
        self._greedy = greedy
        self._version = -1 if source is not None else 0
        self._generator = torch.Generator().manual_seed(seed)
        # NumPy views of the parameters: a snapshot is copied straight into them.
        self._views = {name: tensor.numpy() for name, tensor in policy.state_dict().items()}

    def initial_state(self, batch: int) -> ArrayState:
        return tuple(array.numpy() for array in self._policy.initial_state(batch))

    def initial_action(self, batch: int) -> NDArray[Any]:
        distribution = self._policy.distribution
        return np.zeros((batch, *distribution.action_shape), distribution.action_dtype)

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
        if snapshot.arrays.keys() != self._views.keys():
            different = sorted(snapshot.arrays.keys() ^ self._views.keys())
            raise ValueError(f"weights of another network were published: {different[0]!r} does not match")
        for name, view in self._views.items():
            np.copyto(view, snapshot.arrays[name])
        self._version = snapshot.version

    @torch.inference_mode()
    def step(
        self,
        observation: Observation,
        reward: NDArray[np.float32],
        reset: NDArray[np.bool_],
        state: ArrayState,
        previous_action: NDArray[Any],
    ) -> Decision:
        output = self._policy.step(
            map_observation(torch.from_numpy, observation),
            torch.from_numpy(reward),
            torch.from_numpy(reset),
            tuple(torch.from_numpy(array) for array in state),
            torch.from_numpy(previous_action),
        )
        distribution = self._policy.distribution
        if self._greedy:
            action = distribution.mode(output.logits)
        else:
            action = distribution.sample(output.logits, self._generator)
        return Decision(
            action.numpy(),
            distribution.to_env(action).numpy(),
            output.logits.numpy(),
            tuple(tensor.numpy() for tensor in output.state),
            self._version,
            output.baseline.numpy(),
        )

    @property
    def randomness(self) -> NDArray[np.uint8]:
        return self._generator.get_state().numpy()

    @randomness.setter
    def randomness(self, state: NDArray[np.uint8]) -> None:
        self._generator.set_state(torch.from_numpy(state))
