"""Publishing weights: the learner's side of `actors.weights.WeightSource`."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import nn

from actors.weights import WeightSnapshot, WeightSource

PUBLISH_TIMEOUT_S = 10.0
PUBLISH_ATTEMPTS = 3


class PublishError(RuntimeError):
    """The actors cannot be given new weights. The message carries Ray's own error."""


def snapshot(policy: nn.Module, version: int) -> WeightSnapshot:
    """A copy of the policy's parameters in host memory."""
    arrays = {name: np.array(tensor.cpu().numpy()) for name, tensor in policy.state_dict().items()}
    return WeightSnapshot(version, arrays)


class Publisher(Protocol):
    source: WeightSource

    def publish(self, policy: nn.Module, version: int) -> None:
        """Makes these weights the newest. Versions rise; a resumed run first goes back to the one that its
        actors held."""
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
    so that a node fetches each version once however many actors it has.

    Ray starts it anew if its process dies: empty, until the next publication.
    """

    def __init__(self) -> None:
        self._version = -1
        self._reference: list[Any] = []

    def post(self, version: int, reference: list[Any]) -> None:
        self._version, self._reference = version, reference

    def newest(self, newer_than: int) -> list[Any]:
        return self._reference if self._version > newer_than else []


class RayWeightSource:
    """Picklable; handed to the workers. A worker's own carries the newest weights of the moment at which it
    was asked for, so that it can begin also where the board has just lost its own."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self.newest: list[Any] = []
        """The newest snapshot's reference; in a list, so that Ray passes it on instead of resolving it."""

    def fetch(self, newer_than: int) -> WeightSnapshot | None:
        import ray

        references = ray.get(self._board.newest.remote(newer_than))
        if not references and newer_than < 0:
            references = self.newest
        self.newest = []  # or an old snapshot would stay in the object store
        return ray.get(references[0]) if references else None


class RayPublisher:
    """Weights through Ray's object store. Ray must be initialised.

    Publishing never holds the learner up for long: where a whole job is ended at once, Ray may be gone before
    the learner, which still has a checkpoint to write. Weights that Ray did not take are told of, and the
    third time in a row is a PublishError.
    """

    def __init__(self) -> None:
        import ray  # a machine without Ray still trains inline
        import ray.exceptions
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray: Any = ray
        # On the learner's own node: a lost actor node then takes neither the board nor the weights with it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Retried: what is asked of it while it starts anew is answered afterwards.
        lasting = {"max_restarts": -1, "max_task_retries": -1}
        board: Any = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here, **lasting)
        self._board = board.remote()
        self._ray.get(self._board.newest.remote(0))  # up: no publication counts its start
        self._failures = 0
        self._handed_out = RayWeightSource(self._board)
        self.source: WeightSource = self._handed_out

    def publish(self, policy: nn.Module, version: int) -> None:
        weights = snapshot(policy, version)
        try:
            reference = self._ray.put(weights)
            self._handed_out.newest = [reference]
            self._ray.get(self._board.post.remote(version, [reference]), timeout=PUBLISH_TIMEOUT_S)
        except (self._ray.exceptions.RayError, OSError) as error:
            self._failures += 1
            if self._failures == PUBLISH_ATTEMPTS:
                raise PublishError(
                    f"weights could not be published {PUBLISH_ATTEMPTS} times: {error}"
                ) from error
            print(f"the weights of update {version} were not published: {error}", flush=True)
        else:
            self._failures = 0

    def close(self) -> None:
        self._ray.kill(self._board, no_restart=True)


def make_publisher(runtime: str) -> Publisher:
    return RayPublisher() if runtime == "ray" else LocalPublisher()
