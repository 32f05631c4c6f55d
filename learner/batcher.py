"""Rollouts in, batches out: at most one rollout of a stream a batch, oldest first.

Two rollouts of one stream in one batch would start from the same trace, and the second one's would be
wrong; so the second one waits for the next batch. A rollout is cut by columns where that fills a batch, and
so any number of streams makes batches of any size that is not larger:

    48 streams of one actor, B = 32     |0 . . . . 31|32 . . 47 0 . . 15|16 . . . . 47|   batches
                                        |<---- rollout 0 ---->|<---- rollout 1 ---->|
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.rollout import EpisodeStats, Rollout, map_observation, observation_parts
from configs.layout import streams_of
from configs.schema import Config
from learner.buffers import Buffers
from learner.records.timing import Stopwatch

FIELDS = ("reward", "terminated", "truncated", "reset", "action", "behaviour_logits")
"""Of a rollout and of a batch: a column a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B columns, time-major, on the learner's device. Shapes as in `Rollout`, with B for E."""

    observation: Any
    """A tensor, or several by name."""
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    reset: Tensor
    action: Tensor
    behaviour_logits: Tensor
    previous_action: Tensor
    """[T+1, B, ...]: the action before each observation."""
    initial_state: tuple[Tensor, ...]
    streams: list[StreamPiece]
    episodes: list[EpisodeStats]
    policy_version_min: NDArray[np.int64]
    """[B]: oldest weights that acted in the column."""
    wait_ms: float
    """Mean age of the batch's columns, from the end of acting until they were taken."""
    joining_ms: float
    """Wall time in which the rollouts were joined on the host."""
    copying: Stopwatch
    """Of the copy to the device: on a GPU it goes on when the batch is handed out."""
    reward_deviation: Tensor | None = None
    """[] what the loss divides rewards by (`normalise_rewards`; learner/rewards.py)."""

    @property
    def learned_reward(self) -> Tensor:
        """[T, B] of each action, as the loss clips and scales it."""
        reward = self.reward[1:]
        return reward if self.reward_deviation is None else reward / self.reward_deviation

    @property
    def num_steps(self) -> int:
        return self.action.shape[0] * self.action.shape[1]


@dataclass(frozen=True, slots=True)
class StreamPiece:
    """Which streams, and which piece of their history, some columns of a batch hold."""

    first_stream: int
    incarnation: int
    sequence_number: int
    num_streams: int

    @property
    def streams(self) -> range:
        return range(self.first_stream, self.first_stream + self.num_streams)


def _streams(rollout: Rollout) -> range:
    return range(rollout.first_stream, rollout.first_stream + rollout.num_streams)


class Batcher:
    """Holds rollouts until a batch is full."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self._config, self._num_streams = config, config.num_streams
        self._batch_size = config.batch_size
        self._unroll_length = config.unroll_length
        self._max_policy_lag = config.max_policy_lag
        self.dropped = 0
        """Rollouts refused because their weights were too old, or let go since the actors were scaled; their
        streams' traces start anew."""
        self._dropped_unrolls = 0
        self._waiting: deque[Rollout] = deque()
        """Whole ones, and what is left of those that did not fit into a batch; oldest first."""
        self._newest: dict[int, tuple[int, range]] = {}
        """Of each actor that was heard of: its newest incarnation, and the streams that it carries."""
        self._buffers = Buffers(device)

    def __len__(self) -> int:
        """Rollouts that wait, whole or in part."""
        return len(self._waiting)

    @property
    def unrolls(self) -> dict[str, int]:
        """What was `dropped` so far, and what is `waiting`, in unrolls: T steps of one stream each."""
        return {"dropped": self._dropped_unrolls, "waiting": self._columns}

    @property
    def _columns(self) -> int:
        return sum(rollout.num_streams for rollout in self._waiting)

    @property
    def covered(self) -> set[int]:
        """Actors of whose every stream a rollout waits here: no batch has room for a second one of theirs."""
        columns: Counter[tuple[int, int]] = Counter()
        for rollout in self._waiting:
            columns[rollout.actor_id, rollout.incarnation] += rollout.num_streams
        return {
            actor_id
            for actor_id, (incarnation, streams) in self._newest.items()
            if columns[actor_id, incarnation] >= len(streams)
        }

    def add(self, rollout: Rollout, version: int) -> None:
        """`version`: the learner's present weights. Raises ValueError for a rollout that does not fit."""
        last = rollout.first_stream + rollout.num_streams - 1
        if rollout.unroll_length != self._unroll_length or last >= self._num_streams:
            raise ValueError(
                f"rollout of actor {rollout.actor_id} is {rollout.unroll_length} steps of the streams "
                f"{rollout.first_stream} to {last}, expected {self._unroll_length} steps of streams below "
                f"{self._num_streams}"
            )
        if self._max_policy_lag is not None and version - rollout.policy_version_min > self._max_policy_lag:
            self.dropped += 1
            self._dropped_unrolls += rollout.num_streams
            return
        streams = _streams(rollout)
        _, before = self._newest.get(rollout.actor_id, (0, None))
        if streams != before:
            self._let_go(streams)
        self._newest[rollout.actor_id] = rollout.incarnation, streams
        self._waiting.append(rollout)

    def _let_go(self, streams: range) -> None:
        """The streams were cut anew among the actors (`launch.py scale`): what waits of these from before
        would be one rollout of each too many, for ever."""
        kept: deque[Rollout] = deque()
        for rollout in self._waiting:
            own = _streams(rollout)
            start, stop = (min(max(at - own.start, 0), len(own)) for at in (streams.start, streams.stop))
            if start == stop:
                kept.append(rollout)
                continue
            self.dropped += 1
            self._dropped_unrolls += stop - start
            kept.extend(
                rollout.columns(*part) for part in ((0, start), (stop, len(own))) if part[0] < part[1]
            )
        self._waiting = kept

    def next_batch(self, buffers: Buffers | None = None) -> Batch | None:
        """The next batch, or None while it cannot be filled. It lies in `buffers`, else in the batcher's own,
        and is valid until another one does.

        Of each rollout the first columns are taken that there is room for, up to one whose stream is in the
        batch already, by an older rollout; the others wait. So no rollout of a stream overtakes another.
        """
        if self._columns < self._batch_size:
            return None
        chosen: list[Rollout] = []
        rest: deque[Rollout] = deque()
        streams: set[int] = set()
        for rollout in self._waiting:
            own = _streams(rollout)
            room = own[: self._batch_size - len(streams)]
            count = next((i for i, stream in enumerate(room) if stream in streams), len(room))
            streams.update(own[:count])
            if count == len(own):
                chosen.append(rollout)
                continue
            if count == 0:
                rest.append(rollout)
                continue
            chosen.append(rollout.columns(0, count))
            rest.append(rollout.columns(count, len(own)))
        if len(streams) < self._batch_size:
            return None
        self._waiting = rest
        now = time.time()  # by the wall: another node's clock may be ahead of this one's
        ages = [max(0.0, now - rollout.finished_at) * rollout.num_streams for rollout in chosen]
        return self._stack(chosen, 1e3 * sum(ages) / self._batch_size, buffers or self._buffers)

    def _stack(self, rollouts: list[Rollout], wait_ms: float, buffers: Buffers) -> Batch:
        first = rollouts[0]
        parts = [label for label, _ in observation_parts(first.observation)]
        seen = [[part for _, part in observation_parts(r.observation)] for r in rollouts]
        columns: dict[str, tuple[list[NDArray[Any]], int]] = {
            **{label: ([each[i] for each in seen], 1) for i, label in enumerate(parts)},
            **{
                name: ([getattr(r, name) for r in rollouts], 1)
                for name in (*FIELDS, "game_over")
                if getattr(first, name) is not None
            },
            "previous_action": (
                [np.concatenate([r.previous_action[None], r.action]) for r in rollouts],
                1,
            ),
            **{
                f"initial_state/{i}": ([r.initial_state[i] for r in rollouts], 0)
                for i in range(len(first.initial_state))
            },
        }
        joining_ms = buffers.join(columns)
        sent, copying = buffers.send(list(columns), None if first.game_over is None else parts[0])
        labels = iter(parts)
        return Batch(
            observation=map_observation(lambda _: sent[next(labels)], first.observation),
            **{name: sent[name] for name in (*FIELDS, "previous_action")},
            initial_state=tuple(sent[f"initial_state/{i}"] for i in range(len(first.initial_state))),
            streams=[
                StreamPiece(r.first_stream, r.incarnation, r.sequence_number, r.num_streams) for r in rollouts
            ],
            episodes=[episode for r in rollouts for episode in r.episodes],
            policy_version_min=np.repeat(
                [r.policy_version_min for r in rollouts], [r.num_streams for r in rollouts]
            ),
            wait_ms=wait_ms,
            joining_ms=joining_ms,
            copying=copying,
        )

    # --- checkpoints ---------------------------------------------------------------------------

    def state_dict(self) -> list[dict[str, Any]]:
        """The rollouts that wait."""
        fields = [field.name for field in dataclasses.fields(Rollout) if field.name != "finished_at"]
        return [
            {name: getattr(rollout, name) for name in fields}
            | {
                "episodes": [dataclasses.asdict(episode) for episode in rollout.episodes],
                "carried": [carried.start, carried.stop],
            }
            for rollout in self._waiting
            for _, carried in [self._newest[rollout.actor_id]]
        ]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        for saved in state:
            fields = {name: value for name, value in saved.items() if name not in ("carried", "width")}
            fields["episodes"] = [EpisodeStats(**episode) for episode in saved["episodes"]]
            self._waiting.append(Rollout(**fields))
            actor_id = saved["actor_id"]  # of the version before only the width was saved
            carried = range(*saved["carried"]) if "carried" in saved else streams_of(self._config, actor_id)
            self._newest[actor_id] = saved["incarnation"], carried
