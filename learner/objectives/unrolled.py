"""Objectives of one gradient step a batch: the policy is unrolled over it once, with gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from actors.policy import Policy, PolicyUnroll, State
from configs.schema import Config
from learner.batcher import Batch
from learner.objectives.objective import Loss
from learner.records.timing import Stopwatch
from learner.rtrl.rtrl import Rtrl


class Unrolled:
    """Such an objective says `loss`; this runs the policy. With RTRL the trace rows of the batch's streams
    give the boundary term in the backward pass, which advances them past the unroll."""

    def __init__(self, policy: Policy, config: Config, rtrl: Rtrl | None) -> None:
        self.policy, self.config, self._rtrl = policy, config, rtrl

    def loss(self, unroll: PolicyUnroll, batch: Batch) -> Loss:
        raise NotImplementedError

    def losses(self, batch: Batch, update: int, watch: Stopwatch) -> Iterator[Loss]:
        if (rtrl := self._rtrl) is None:
            loss = self._from(batch, batch.initial_state, None)
            watch.lap("forward")
            yield loss
            return
        step = rtrl.begin(batch, update)
        watch.lap("rtrl")
        loss = self._from(batch, step.state, step.traces.for_core)
        watch.lap("forward")

        def finish() -> dict[str, float | Tensor]:
            metrics = rtrl.finish(step, lambda trace: self._from(batch, batch.initial_state, trace).total)
            watch.lap("rtrl")
            return metrics

        yield dataclasses.replace(loss, finish=finish)

    def _from(self, batch: Batch, state: State, trace: Any) -> Loss:
        unroll = self.policy.unroll(
            batch.observation,
            batch.reward,
            batch.reset,
            state,
            batch.previous_action,
            trace,
            self.config.credit,
        )
        return self.loss(unroll, batch)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
