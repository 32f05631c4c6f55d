"""Publishing weights: the learner's side of `actors.weights.WeightSource`."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import nn

from actors.weights import WeightSnapshot, WeightSource


def snapshot(policy: nn.Module, version: int) -> WeightSnapshot:
    """A copy of the policy's parameters in host memory."""
    arrays = {name: np.array(tensor.cpu().numpy()) for name, tensor in policy.state_dict().items()}
    return WeightSnapshot(version, arrays)


class Publisher(Protocol):
    source: WeightSource

    def publish(self, policy: nn.Module, version: int) -> None:
        """Makes these weights the newest. Versions must rise."""
        ...

    def close(self) -> None: ...


class LocalPublisher:
    """Weights for actors in the same process. It is its own source."""

    def __init__(self) -> None:
        self.source: WeightSource = self
        self._latest: WeightSnapshot | None = None

    def publish(self, policy: nn.Module, version: int) -> None:
        self._latest = snapshot(policy, version)

    def fetch(self, newer_than: int) -> WeightSnapshot | None:
        return self._latest if self._latest is not None and self._latest.version > newer_than else None

    def close(self) -> None:
        self._latest = None


class _Board:
    """Runs as a Ray actor: holds a reference to the newest snapshot, which lives in the object store,
    so that a node fetches each version once however many actors it has."""

    def __init__(self) -> None:
        self._version = -1
        self._reference: list[Any] = []

    def post(self, version: int, reference: list[Any]) -> None:
        self._version, self._reference = version, reference

    def newest(self, newer_than: int) -> list[Any]:
        return self._reference if self._version > newer_than else []


class RayWeightSource:
    """Picklable; handed to the workers."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def fetch(self, newer_than: int) -> WeightSnapshot | None:
        import ray

        # References travel inside a list so that Ray passes them on instead of resolving them.
        references = ray.get(self._board.newest.remote(newer_than))
        return ray.get(references[0]) if references else None


class RayPublisher:
    """Weights through Ray's object store. Ray must be initialised."""

    def __init__(self) -> None:
        import ray  # a machine without Ray still trains inline
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray: Any = ray
        # On the learner's own node: a lost actor node then takes neither the board nor the weights with it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board: Any = ray.remote(_Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here)
        self._board = board.remote()
        self.source: WeightSource = RayWeightSource(self._board)

    def publish(self, policy: nn.Module, version: int) -> None:
        reference = self._ray.put(snapshot(policy, version))
        self._ray.get(self._board.post.remote(version, [reference]))

    def close(self) -> None:
        self._ray.kill(self._board, no_restart=True)


def make_publisher(runtime: str) -> Publisher:
    return RayPublisher() if runtime == "ray" else LocalPublisher()
