"""The ceiling of a run: its acting and its learning at work together, with nothing between them but a count.

    actors' processes  --"a rollout is done"-->  this process: an update for each batch of such rollouts
                       <----"one more"---------

The actors step the same envs by the same policy in the same layout, on the same devices, and throw what
they collect away; the learner updates on one real batch, again and again. So each is measured while the other
loads the machine as it does in the run, and they keep the same pace: actors are ahead by `rollouts_in_flight`
at most. What the system does besides, which is carrying rollouts and weights, joining batches, Ray, records
and looking after actors, is what keeps it below this rate.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from actors.collect import Collector, make_collector
from actors.fleet.fleet import FleetError
from actors.policy import Policy
from configs.layout import streams_of
from configs.schema import Config
from envs.make import env_spec
from learner.batcher import Batch, Batcher
from learner.learner import Learner
from learner.publish import LocalPublisher

PATIENCE_S = 600.0
SETTLE_S = 1.5


def _acting(config: Config, actor_id: int) -> Collector:
    publisher = LocalPublisher()
    publisher.publish(Policy(env_spec(config.env), config.policy), 0)
    return make_collector(config, publisher.source, actor_id, incarnation=actor_id)


def _act(config: Config, actor_id: int, line: Connection) -> None:
    """An actor's process: a rollout for each True that comes, until False."""
    torch.set_num_threads(config.env.threads)
    collector = _acting(config, actor_id)
    try:
        collector.collect()
        line.send("up")
        while line.recv():
            collector.collect()
            line.send("done")
    except EOFError:  # the learner's process has ended
        pass
    finally:
        collector.close()


class Processes:
    """Actors that are asked for rollouts and say when one is done."""

    def __init__(self, config: Config, stack: ExitStack) -> None:
        context = multiprocessing.get_context("spawn")
        self._owed: dict[Connection, int] = {}
        self._widths: dict[Connection, int] = {}
        for actor_id in range(config.num_actors):
            here, there = context.Pipe()
            process = context.Process(target=_act, args=(config, actor_id, there), name=f"actor {actor_id}")
            process.start()
            there.close()
            stack.callback(_end, process, here)
            self._owed[here], self._widths[here] = 1, len(streams_of(config, actor_id))
        self.finish()
        self._in_flight = config.ray.rollouts_in_flight

    def finish(self) -> None:
        """Waits until nothing is owed, and asks for nothing."""
        while any(self._owed.values()):
            for line in self._done():
                self._owed[line] -= 1

    def _done(self) -> list[Connection]:
        """The lines of rollouts that are done, at least one. Raises FleetError where an actor has ended."""
        ready: Any = wait([line for line, owed in self._owed.items() if owed], PATIENCE_S)
        try:
            for line in ready:
                line.recv()
        except (EOFError, ConnectionError) as error:
            raise FleetError("an actor that the ceiling is measured by has ended; see above") from error
        if not ready:
            raise FleetError(f"no rollout within {PATIENCE_S:g} s from the actors of the ceiling")
        return ready

    def columns(self) -> Iterator[int]:
        """Streams of one finished rollout after the other, for which its actor is asked for another."""
        for line, owed in self._owed.items():
            for _ in range(self._in_flight - owed):
                line.send(True)
            self._owed[line] = self._in_flight
        while True:
            done = self._done()
            for line in done:  # all of them first: whoever is asked here may not be asked to go on
                line.send(True)
            for line in done:
                yield self._widths[line]


class InTurn:
    """Inline: the actors of this process, one after the other."""

    def __init__(self, config: Config, stack: ExitStack) -> None:
        self._actors = [_acting(config, actor_id) for actor_id in range(config.num_actors)]
        for actor in self._actors:
            stack.callback(actor.close)

    def finish(self) -> None: ...

    def columns(self) -> Iterator[int]:
        while True:
            for actor in self._actors:
                yield actor.collect().num_streams


class Coupled:
    def __init__(self, config: Config, learner: Learner, batch: Batch, stack: ExitStack) -> None:
        """`stack` ends the actors. Raises FleetError where one does not come up."""
        self._config, self._update = config, endless(learner, batch)
        self._actors = (InTurn if config.runtime == "inline" else Processes)(config, stack)
        self._columns: Iterator[int] | None = None
        self._waiting = 0

    def window(self, seconds: float) -> float:
        """Agent steps a second. What comes first after a rest settles, and does not count."""
        if self._columns is None:
            self._columns = self._actors.columns()
            self._run(SETTLE_S)
        return self._run(seconds)

    def _run(self, seconds: float) -> float:
        assert self._columns is not None
        updates, start = 0, time.perf_counter()
        while True:
            while self._waiting < self._config.batch_size:
                self._waiting += next(self._columns)
            self._waiting -= self._config.batch_size
            self._update()
            updates += 1
            spent = time.perf_counter() - start
            if spent >= seconds:
                return updates * self._config.steps_per_update / spent

    def rest(self) -> None:
        """Everything stands still when it returns."""
        self._columns, self._waiting = None, 0
        self._actors.finish()


def real_batch(config: Config, device: torch.device) -> Batch:
    """Of the first rollouts of an actor, or of several."""
    batcher = Batcher(config, device)
    for actor_id in range(config.num_actors):
        collector = _acting(config, actor_id)
        batcher.add(collector.collect(), 0)
        collector.close()
        batch = batcher.next_batch()
        if batch is not None:
            return batch
    raise AssertionError("no batch is larger than all streams")


def endless(learner: Learner, batch: Batch) -> Callable[[], object]:
    """An update a call on the same batch, whose streams go on from one to the next: traces are carried. As in
    the run each is read when the next one was launched: what a call returns is of the update before."""
    made = 0

    def update() -> object:
        nonlocal made
        made += 1
        streams = [
            dataclasses.replace(piece, incarnation=-1, sequence_number=made) for piece in batch.streams
        ]
        learner.launch(dataclasses.replace(batch, streams=streams))
        return learner.read() if learner.unread > 1 else {}

    return update


def _end(process: Any, line: Connection) -> None:
    with suppress(OSError):  # it has ended
        line.send(False)
    process.join(10.0)
    if process.is_alive():
        process.kill()
        process.join()
    line.close()
