"""Publishing weights: the learner's side of `actors.weights.WeightSource`.

    weights on the device --one flat copy a dtype--> host --put--> object store --post--> board <-- actors

Through Ray nothing of this is waited for: one publication is under way at a time, and what its
acknowledgement said is heard when the next one begins, or while the loop waits for rollouts. Weights that
newer ones overtake while the board is silent are never sent; they are counted.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from actors.weights import Place, WeightSnapshot, WeightSource
from learner.board import Board
from learner.to_host import ToHost

PUBLISH_TIMEOUT_S = 10.0
PUBLISH_ATTEMPTS = 4
"""So that they outlast the 30 s for which Ray holds calls up behind one that was lost."""


class PublishError(RuntimeError):
    """The actors cannot be given new weights. The message carries Ray's own error."""


class HostCopy:
    """The policy's parameters of this moment on their way to host memory. Nobody waits for them until
    `snapshot`."""

    def __init__(self, policy: nn.Module, version: int) -> None:
        self._version = version
        alike: dict[str, list[Tensor]] = {}
        sizes: dict[str, int] = {}
        self._places: dict[str, Place] = {}
        for name, tensor in policy.state_dict().items():
            dtype = str(tensor.dtype).removeprefix("torch.")
            self._places[name] = Place(dtype, sizes.get(dtype, 0), tuple(tensor.shape))
            sizes[dtype] = sizes.get(dtype, 0) + tensor.numel()
            alike.setdefault(dtype, []).append(tensor.detach().flatten())
        self._dtypes = list(alike)
        self._copies = ToHost([torch.cat(parts) for parts in alike.values()])

    @property
    def arrived(self) -> bool:
        return self._copies.arrived

    def snapshot(self) -> WeightSnapshot:
        """Waits for the copy."""
        arrays = (tensor.numpy() for tensor in self._copies.wait())
        return WeightSnapshot(self._version, dict(zip(self._dtypes, arrays, strict=True)), self._places)


class Publisher(Protocol):
    source: WeightSource
    errors: int
    """Publications that failed."""
    skipped: int
    """Publications that newer weights overtook before they were sent."""

    def publish(self, policy: nn.Module, version: int) -> None:
        """Makes these weights the newest, as soon as can be. Versions rise; a resumed run first goes back to
        the one that its actors held.

        Raises PublishError where that has failed too often.
        """
        ...

    def poll(self) -> None:
        """Moves on what is under way, without waiting. Raises as `publish`."""
        ...

    def flush(self) -> None:
        """Waits until what was published last can be fetched, or has failed. Raises as `publish`."""
        ...

    def close(self) -> None: ...


class LocalPublisher:
    """Weights for actors in the same process. It is its own source."""

    def __init__(self) -> None:
        self.source: WeightSource = self
        self.errors = self.skipped = 0
        self._newest: HostCopy | None = None
        self._version = -1

    def publish(self, policy: nn.Module, version: int) -> None:
        self._newest, self._version = HostCopy(policy, version), version

    def fetch(self, newer_than: int) -> WeightSnapshot | None:
        if self._newest is None or self._version <= newer_than:
            return None
        return self._newest.snapshot()

    def poll(self) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None:
        self._newest = None


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


class _Sending(threading.Thread):
    """One publication. Ray's calls have no time limit, and one to a Ray that is being ended answers when that
    is gone: so they are this thread's, and the learner's does not wait."""

    def __init__(self, board: Any, source: RayWeightSource, snapshot: WeightSnapshot) -> None:
        super().__init__(name="publish", daemon=True)
        self.version = snapshot.version
        self.error: Exception | None = None
        self._board, self._source, self._snapshot = board, source, snapshot
        self._posted_at: float | None = None

    def run(self) -> None:
        import ray

        try:
            reference = [ray.put(self._snapshot)]
            self._source.newest = reference
            posted = self._board.post.remote(self.version, reference)
            self._posted_at = time.monotonic()
            ray.get(posted)
        except Exception as error:  # whatever it is, the learner's thread raises it
            self.error = error

    def finished(self, timeout_s: float) -> bool:
        """Whether Ray has answered, at the latest after so long. Raises what went wrong, TimeoutError too."""
        self.join(timeout_s)
        if self.is_alive():
            if self._posted_at is None or time.monotonic() - self._posted_at < PUBLISH_TIMEOUT_S:
                return False
            raise TimeoutError(f"the board of weights is silent for {PUBLISH_TIMEOUT_S:g} s")
        if self.error is not None:
            raise self.error
        return True


class RayPublisher:
    """Weights through Ray's object store. Ray must be initialised.

    Publishing never holds the learner up: where a whole job is ended at once, Ray may be gone before
    the learner, which still has a checkpoint to write. Weights that Ray did not take, or did not acknowledge
    within PUBLISH_TIMEOUT_S, are told of, and the fourth time in a row is a PublishError.
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
        board: Any = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here, **lasting)
        self._board = board.remote()
        self._ray.get(self._board.newest.remote(0))  # up: no publication counts its start
        self.errors = self.skipped = 0
        self._failures = 0
        """In a row."""
        self._next: HostCopy | None = None
        """To be sent."""
        self._sent: _Sending | None = None
        """The one under way."""
        self._handed_out = RayWeightSource(self._board)
        self.source: WeightSource = self._handed_out

    def publish(self, policy: nn.Module, version: int) -> None:
        self._hear(0.0)
        if self._next is not None and self._sent is None:
            # Taken at the update before this one, which a GPU is through with or about to be: it must not
            # be overtaken for that, or no weights would ever be sent.
            self._send(self._next)
        self.skipped += self._next is not None
        self._next = HostCopy(policy, version)
        self.poll()

    def poll(self) -> None:
        self._hear(0.0)
        if self._next is not None and self._sent is None and self._next.arrived:
            self._send(self._next)

    def flush(self) -> None:
        while self._next is not None or self._sent is not None:
            self._hear(PUBLISH_TIMEOUT_S)
            if self._next is not None:
                self._send(self._next)

    def _send(self, copy: HostCopy) -> None:
        self._next, self._sent = None, _Sending(self._board, self._handed_out, copy.snapshot())
        self._sent.start()

    def _hear(self, timeout_s: float) -> None:
        """What became of the publication under way."""
        sent = self._sent
        if sent is None:
            return
        try:
            if sent.finished(timeout_s):
                self._sent, self._failures = None, 0
        except (self._ray.exceptions.RayError, OSError) as error:  # a TimeoutError is an OSError
            self._sent = None
            self._failed(sent.version, error)

    def _failed(self, version: int, error: Exception) -> None:
        self.errors += 1
        self._failures += 1
        if self._failures == PUBLISH_ATTEMPTS:
            raise PublishError(f"weights could not be published {PUBLISH_ATTEMPTS} times: {error}") from error
        print(f"the weights of update {version} were not published: {error}", flush=True)

    def close(self) -> None:
        self._ray.kill(self._board, no_restart=True)


def make_publisher(runtime: str) -> Publisher:
    return RayPublisher() if runtime == "ray" else LocalPublisher()
