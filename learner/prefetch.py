"""Where the loop's batches come from: joined in its own thread, or one ahead by a thread beside it.

    fleet --every ready rollout--> Batcher --into the free one of two Buffers--> ready --> the loop: an update
      ^                                                                            |
      '----- nothing is taken while a batch is ready, and the other in use <-------'

The thread takes rollouts, looks after the actors, joins, and copies on a stream of its own. Publishing,
checkpoints and records stay with the loop's thread. A rollout is learned from once, and in the order in which
it came, either way.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any, Protocol

import torch

from actors.rollout import Rollout
from configs.schema import Config
from learner.batcher import Batch, Batcher
from learner.buffers import Buffers

ASK_S = 0.5
"""For so long the thread asks the fleet; then it looks whether it is to end."""
LOOK_S = 0.02
"""For so long the loop waits for the thread; then it looks after other things."""
JOIN_S = 30.0
"""For so long the thread may take to end. Ray gives up on what is lost in less."""


class Rollouts(Protocol):
    def next_rollout(self, timeout_s: float, skip: Collection[int] = ()) -> Rollout | None: ...


class Feed(Protocol):
    """Batches, one after the other."""

    batcher: Batcher

    @property
    def rollouts(self) -> int:
        """Here and not yet learned from."""
        ...

    def take(self) -> Batch | None:
        """The next batch, if it is there. The last one is no longer valid.

        Raises what went wrong while it was made.
        """
        ...

    def wait(self) -> None:
        """For a while, or until there is something new. Raises as `take`."""
        ...

    def close(self) -> None: ...


def prefetches(config: Config, device: torch.device) -> bool:
    """Whether batches are made by a thread beside the loop's. `auto`: where the learner is on a GPU, and the
    thread's core is not one that the updates are computed on (docs/log.md)."""
    if config.runtime == "inline":
        return False  # acting is this thread's own work
    return config.prefetch == "on" or (config.prefetch == "auto" and device.type == "cuda")


def make_feed(config: Config, source: Rollouts, device: torch.device, updates: Callable[[], int]) -> Feed:
    """`updates`: that were launched so far. One batch makes one update."""
    kind = Prefetcher if prefetches(config, device) else InTurn
    return kind(config, source, device, updates)


class InTurn:
    """Rollouts are taken, and batches joined, while the loop asks for them."""

    def __init__(
        self, config: Config, source: Rollouts, device: torch.device, updates: Callable[[], int]
    ) -> None:
        self.batcher = Batcher(config, device)
        self._source, self._updates = source, updates

    @property
    def rollouts(self) -> int:
        return len(self.batcher)

    def take(self) -> Batch | None:
        return self.batcher.next_batch()

    def wait(self) -> None:
        rollout = self._source.next_rollout(timeout_s=1.0, skip=self.batcher.covered)
        if rollout is not None:
            self.batcher.add(rollout, self._updates())

    def close(self) -> None: ...


class Prefetcher:
    """A thread that has the next batch ready while the loop learns from the last one.

    It begins with the first `take`. From then on `source` is asked by it alone, until `close`.
    """

    def __init__(
        self, config: Config, source: Rollouts, device: torch.device, updates: Callable[[], int]
    ) -> None:
        self.batcher = Batcher(config, device)
        self._source, self._updates = source, updates
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._news = threading.Condition()
        """Of all that follows."""
        self._free = deque([Buffers(device), Buffers(device)])
        self._ready: deque[tuple[Batch, Buffers, float]] = deque()
        """With the time at which it was made."""
        self._in_use: Buffers | None = None
        self._error: BaseException | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def rollouts(self) -> int:
        return len(self.batcher) + sum(len(batch.streams) for batch, _, _ in tuple(self._ready))

    def take(self) -> Batch | None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(self._updates(),), name="prefetch", daemon=True
            )
            self._thread.start()
        with self._news:
            if self._in_use is not None:
                self._in_use.release()
                self._free.append(self._in_use)
                self._in_use = None
                self._news.notify_all()
            if not self._ready:
                self._raise()
                return None
            batch, buffers, made = self._ready.popleft()
            self._in_use = buffers
        buffers.hand_over()
        return dataclasses.replace(batch, wait_ms=batch.wait_ms + 1e3 * (time.monotonic() - made))

    def wait(self) -> None:
        with self._news:
            if not self._ready:
                self._raise()
                self._news.wait(LOOK_S)

    def _raise(self) -> None:
        """Batches that were made before are learned from first."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Ends the thread. What it has taken and was not learned from is lost with the streams."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        if self._thread is None:
            return
        self._thread.join(JOIN_S)
        if self._thread.is_alive():
            print(f"the prefetching thread has not ended within {JOIN_S:g} s; it ends with the process")
        if self._error is not None:
            print(f"the next batch, which was not needed any more, could not be made: {self._error!r}")
            self._error = None

    # --- the thread's own ----------------------------------------------------------------------

    def _run(self, updates: int) -> None:
        """`updates`: before the first batch."""
        on_stream: Any = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        try:
            with on_stream:
                while (buffers := self._next_free()) is not None:
                    batch = self._make(buffers, updates)
                    if batch is None:
                        return
                    updates = max(updates + 1, self._updates())  # more where another learner's batch made one
                    with self._news:
                        self._ready.append((batch, buffers, time.monotonic()))
                        self._news.notify_all()
        except BaseException as error:  # whatever it is, the loop raises it
            with self._news:
                self._error = error
                self._news.notify_all()

    def _next_free(self) -> Buffers | None:
        """None where the thread is to end."""
        with self._news:
            self._news.wait_for(lambda: self._free or self._closed)
            return None if self._closed else self._free.popleft()

    def _make(self, buffers: Buffers, updates: int) -> Batch | None:
        """The batch that is learned from after so many updates; None where the thread is to end."""
        while not self._closed:
            if (batch := self.batcher.next_batch(buffers)) is not None:
                return batch
            rollout = self._source.next_rollout(timeout_s=ASK_S, skip=self.batcher.covered)
            if rollout is not None:
                self.batcher.add(rollout, updates)
        return None
