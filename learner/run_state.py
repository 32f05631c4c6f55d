"""What a checkpoint of a run holds, and how a run takes it up again.

    always      weights, optimiser, counters; the window of the last games
    streams     where the actors can write theirs down (inline, on envs that can): envs, episodes, recurrent
                states; and what belongs to them: traces, the history that traces are computed anew from,
                the rollouts that wait for a batch, and the weights that the actors hold, where those are not
                the newest (publish_interval)

With its streams a run goes on as if it had never stopped, to the bit. Without them new streams start, with
new episodes and traces of zero, and that is told; rollouts that were waiting, and a batch that was made ahead
(learner/prefetch.py), ended with their streams.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from configs.schema import Config
from learner.batcher import Batcher
from learner.learner import Learner
from learner.publish import Publisher
from learner.records import checkpoint
from learner.records.metrics import Metrics
from learner.records.state import split_state


class Streams(Protocol):
    """Who holds the streams: a fleet of actors."""

    def state_dict(self) -> dict[str, NDArray[Any]] | None: ...

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None: ...


class RunState:
    """The state of one run, written to `folder` and taken up from there."""

    def __init__(
        self,
        config: Config,
        learner: Learner,
        streams: Streams,
        batcher: Batcher,
        publisher: Publisher,
        metrics: Metrics,
        folder: Path,
    ) -> None:
        self._config, self._learner, self._streams = config, learner, streams
        self._batcher, self._publisher = batcher, publisher
        self._metrics, self._folder = metrics, folder
        self.saved_updates: int | None = None
        """Updates done when the newest checkpoint of this process was written."""

    def save(self, *, streams: bool = True) -> Path:
        """Writes a checkpoint. `streams=False`: without them, where they are ahead of the learner.

        Raises CheckpointError if the disk fails.
        """
        tensors, rest = split_state(self.state_dict(streams=streams), "")
        path = checkpoint.save(
            self._folder,
            self._learner.global_step,
            tensors,
            {"state": rest, "preset": self._config.preset},
            keep_last=self._config.checkpoint.keep_last,
        )
        self.saved_updates = self._learner.updates
        return path

    def state_dict(self, *, streams: bool = True) -> dict[str, Any]:
        """No random state of this process: after the start only the actors draw, each its own generator's."""
        state = self._learner.state_dict() | {"metrics": self._metrics.state_dict()}
        alone = self._learner.ranks.of == 1  # the streams of several live in Ray's processes
        arrays = self._streams.state_dict() if streams and alone else None
        if arrays is None:
            # The streams end with this process, and with them all that belongs to them.
            return state | {"streams": None, "traces": None, "history": None, "return_sums": None}
        held = self._publisher.source.fetch(-1)
        if held is not None and held.version == self._learner.updates:
            held = None  # the newest
        return state | {
            "streams": {name: torch.from_numpy(array) for name, array in arrays.items()},
            "streams_of": self._streams_of(),
            "waiting": self._batcher.state_dict(),
            "held": None if held is None else {"version": held.version, "arrays": held.arrays},
        }

    def resume(self, state: dict[str, Any]) -> str:
        """Takes up what `Learner.load_state_dict` does not. Returns a line on what became of the streams."""
        self._metrics.load_state_dict(state["metrics"])
        self.saved_updates = self._learner.updates
        where = f"resumed at step {self._learner.global_step:,}"
        why = self._why_anew(state)
        if why is not None:
            return f"{where}; new episodes begin, with traces of zero: {why}"
        self._streams.load_state_dict({name: tensor.numpy() for name, tensor in state["streams"].items()})
        self._learner.load_traces(state)
        self._batcher.load_state_dict(state["waiting"])
        if (held := state.get("held")) is not None:
            if not 0 <= held["version"] < self._learner.updates:
                raise ValueError(f"the actors hold weights {held['version']} of {self._learner.updates}")
            policy = copy.deepcopy(self._learner.policy)
            policy.load_state_dict({name: torch.from_numpy(a) for name, a in held["arrays"].items()})
            self._publisher.publish(policy, held["version"])
        return f"{where}; every stream goes on where it was"

    def _why_anew(self, state: dict[str, Any]) -> str | None:
        """Why the saved streams are not gone on with; None where they are."""
        if state["streams"] is None:
            return (
                "the streams were not saved (they live in other processes, or the env cannot write them down)"
            )
        saved, mine = state["streams_of"], self._streams_of()
        if not isinstance(saved, dict) or "waiting" not in state:
            return "the checkpoint is of a version that did not save all that belongs to them"
        changed = [name for name in sorted(saved.keys() | mine.keys()) if saved.get(name) != mine.get(name)]
        return f"{', '.join(changed)} changed" if changed else None

    def _streams_of(self) -> dict[str, Any]:
        """What streams, traces and history are made by: one that changed makes them another run's."""
        config = self._config
        names = ["runtime", "num_streams", "num_actors", "credit"]
        if config.actor_groups > 1:  # the one field that older checkpoints lack
            names.append("actor_groups")
        branches = {"env": config.env, "rtrl": config.rtrl}
        return {name: getattr(config, name) for name in names} | {
            f"{branch}.{name}": _plain(value)
            for branch, options in branches.items()
            for name, value in dataclasses.asdict(options).items()
            if f"{branch}.{name}" != "env.num_envs"  # follows from streams and actors
        }


def _plain(value: Any) -> Any:
    """As it comes back from a checkpoint: tuples are kept apart there, and JSON would make them lists."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
