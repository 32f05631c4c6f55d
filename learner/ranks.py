"""Learners of one policy, each with streams, batches and traces of its own, that take every step together.

    rank 0   batch --loss--> gradient --.
    rank 1   batch --loss--> gradient ---+-- the sum, of one flat bucket --> the same step everywhere
    rank 2   no batch in time:      0 --'

The loss is a sum over the steps of a batch, so the sum of the ranks' gradients is the gradient of their
batches joined, and a step of many ranks is one of a single learner with all their columns. Before each step
the ranks agree whether there is one: no rank waits in a sum that another does not come to.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

LOOPBACK = "127.0.0.1"
LOOPBACK_INTERFACE = "lo"
"""All ranks are on one machine, and nobody else is to meet them."""


class RankLostError(RuntimeError):
    """Another rank is gone, or late. What became of it is the cause, which this rank cannot know."""


class RanksDifferError(RuntimeError):
    """The ranks do not have the same weights: whose are right nobody knows, and none of them are saved."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What all ranks know before a step. Numbers are of ranks, unless said otherwise."""

    ending: int
    """That want the run to end: where there is one, it ends, on all of them."""
    batches: int
    """That have a batch."""
    waiting: int
    """That have none, and want the others to wait for it."""
    steps: int
    """Agent steps of all batches."""
    log: bool
    """Whether it is time to write metrics, by the clock of rank 0."""

    @property
    def step(self) -> bool:
        """Whether a step is taken."""
        return self.batches > 0 and not (self.waiting or self.ending)


class Ranks(Protocol):
    number: int
    """0 evaluates, records and saves."""
    of: int
    blocked: bool
    """Whether it is waiting for the others, now."""

    def agree(self, *, ending: bool, steps: int, waiting: bool = False, log: bool = False) -> Agreed:
        """Waits for every rank. `steps`: of this rank's batch, 0 without one. `log` of rank 0 counts."""
        ...

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Each becomes, in place, the sum of its like on all ranks. All of one dtype and device."""
        ...

    def gather(self, document: Any) -> list[Any]:
        """What the others gave, on rank 0; nothing elsewhere. `document`: as JSON takes it."""
        ...


class Alone:
    """The only rank."""

    number, of, blocked = 0, 1, False

    def agree(self, *, ending: bool, steps: int, waiting: bool = False, log: bool = False) -> Agreed:
        return Agreed(int(ending), int(steps > 0), int(waiting), steps, log)

    def add_up(self, tensors: Sequence[Tensor]) -> None: ...

    def gather(self, document: Any) -> list[Any]:
        return []


class Joined:
    """One of several, which torch.distributed joins: what is agreed on goes between hosts (gloo), gradients
    between GPUs (NCCL) where the learner is on one.

    All but the constructor raises RankLostError where another rank is gone, or late.
    """

    def __init__(self, number: int, of: int) -> None:
        self.number, self.of, self.blocked = number, of, False

    def join(self, store: Store, device: torch.device, timeout_s: float) -> None:
        """Waits for all ranks. `store`: new with each gang, so that none meets the keys of one before it.
        `timeout_s`: after which a rank that waits for another gives up, longer than any update may take."""
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", LOOPBACK_INTERFACE)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        timeout = timedelta(seconds=timeout_s)
        with self._waiting():
            dist.init_process_group(
                backend, store=store, rank=self.number, world_size=self.of, timeout=timeout
            )

    def agree(self, *, ending: bool, steps: int, waiting: bool = False, log: bool = False) -> Agreed:
        mine = [ending, steps > 0, waiting, steps, log and self.number == 0]
        told = torch.tensor(mine, dtype=torch.int64)
        self._sum(told)
        *counts, logs = told.tolist()
        return Agreed(*counts, log=bool(logs))

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        bucket = torch.cat([tensor.flatten() for tensor in tensors])
        self._sum(bucket)
        sums = bucket.split([tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view_as(tensor))

    def gather(self, document: Any) -> list[Any]:
        text = torch.tensor(bytearray(json.dumps(document), "utf-8"), dtype=torch.uint8)
        lengths = torch.zeros(self.of, dtype=torch.int64)
        lengths[self.number] = len(text)
        self._sum(lengths)
        longest = int(lengths.max())
        padded = torch.nn.functional.pad(text, (0, longest - len(text)))
        found = [torch.empty_like(padded) for _ in range(self.of)] if self.number == 0 else None
        with self._waiting():
            dist.gather(padded, found)
        others = [] if found is None else list(zip(found, lengths.tolist(), strict=True))[1:]
        return [json.loads(bytes(text[:length].tolist())) for text, length in others]

    def close(self) -> None:
        dist.destroy_process_group()

    def _sum(self, tensor: Tensor) -> None:
        with self._waiting():
            dist.all_reduce(tensor)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self.blocked = True
        try:
            yield
        except RuntimeError as error:
            raise RankLostError(
                f"learner {self.number} of {self.of} has lost another one: {error}"
            ) from error
        finally:
            self.blocked = False


def open_store() -> TCPStore:
    """Where ranks find each other, on a port that the system chooses (`.port`). It is there as long as this
    process, and nobody on another machine can reach it."""
    listening = socket.create_server((LOOPBACK, 0))
    port = listening.getsockname()[1]
    return TCPStore(
        LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
    )


def store_at(port: int) -> TCPStore:
    """The store that another rank has opened."""
    return TCPStore(LOOPBACK, port, wait_for_workers=False)


def fingerprint(policy: nn.Module, *counters: int) -> str:
    """The same where weights, statistics and counters are, to the bit."""
    digest = hashlib.sha256(" ".join(map(str, counters)).encode())
    for name, tensor in policy.state_dict().items():
        digest.update(name.encode() + tensor.cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
