"""The RTRL side of an update: which traces a batch starts from, and what is measured of them.

begin    rows of the batch's streams -> zeroed (a control), recomputed (fresh_traces) or as carried
         (V-trace's objective unrolls and differentiates; backward advances the rows)
finish   rows bounded if asked; metrics
advance  instead, where an objective gathered the rows and advanced the copies itself: written back
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from actors.policy import Policy
from configs.schema import Config
from kernels.rtrl import Trace
from learner.batcher import Batch
from learner.rtrl.diagnostics import boundary_share, cosine, gradients
from learner.rtrl.history import History
from learner.rtrl.trace_bank import BatchTraces, TraceBank


@dataclass(slots=True)
class Step:
    """What one update needs of the traces, from `begin` to `finish`."""

    traces: BatchTraces
    state: tuple[Tensor, ...]
    """The batch's initial state; it requires grad where the boundary term is measured."""
    carried: list[Trace] | None
    """A copy of the traces, of updates whose boundary term is measured."""
    fresh: list[Trace] | None
    """The traces under the present weights, where staleness is measured."""


class Rtrl:
    """Owns the bank and the history. `breaks` and `clips` are totals of the run, in streams."""

    def __init__(self, policy: Policy, config: Config) -> None:
        self._policy, self._config = policy, config
        self.bank = TraceBank(policy.initial_trace(config.num_streams))
        options = config.rtrl
        wanted = options.fresh_traces or options.staleness_interval > 0
        self._history = History(options.history_rollouts) if wanted else None
        self.breaks = 0
        self.clips = torch.zeros((), dtype=torch.int64, device=next(policy.parameters()).device)

    def history_state(self) -> list[Any] | None:
        return None if self._history is None else self._history.state_dict()

    def load_history(self, state: list[Any] | None) -> None:
        if self._history is not None and state is not None:
            self._history.load_state_dict(state, next(self._policy.parameters()).device)

    def begin(self, batch: Batch, update: int) -> Step:
        options = self._config.rtrl
        traces, breaks = self.bank.traces(batch.streams)
        self.breaks += breaks
        if not options.boundary:
            traces.zero()
        fresh = None
        if self._history is not None:
            stale = options.staleness_interval > 0 and update % options.staleness_interval == 0
            if options.fresh_traces or stale:
                fresh = self._history.fresh_traces(self._policy, batch)
            self._history.append(batch)
            if options.fresh_traces and fresh is not None:
                traces.write(fresh)
        state, carried = batch.initial_state, None
        if update % self._config.diagnostics_interval == 0:
            carried = traces.gather()
            state = tuple(tensor.clone().requires_grad_() for tensor in state)
        return Step(traces, state, carried, None if options.fresh_traces else fresh)

    def finish(self, step: Step, loss_from: Callable[[Any], Tensor]) -> dict[str, float | Tensor]:
        """After backward, before the optimiser's step. Returns the rtrl/* metrics of this update.

        `loss_from(trace)`: the batch's loss, unrolled from another trace.
        """
        metrics: dict[str, float | Tensor] = {}
        if step.carried is not None:
            metrics |= self.measure(step.carried, step.state)
        if step.fresh is not None:
            parameters = self._policy.core.recurrent_parameters()
            trace = step.fresh[0] if len(step.fresh) == 1 else step.fresh
            exact = torch.autograd.grad(loss_from(trace), parameters)
            metrics["rtrl/staleness_cos"] = cosine(gradients(parameters), exact)
        return metrics | self._bounded(step)

    def advance(self, step: Step, traces: list[Trace]) -> dict[str, float | Tensor]:
        """Writes the traces after the batch into its rows; then as `finish`, without what that measures."""
        step.traces.write(traces)
        return self._bounded(step)

    def measure(self, traces: list[Trace], state: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """After a backward from states that require grad, and from the `traces` [B, ...] that belong to them,
        one a layer."""
        lam_0 = [tensor.grad for tensor in state if tensor.grad is not None]
        core = self._policy.core
        return boundary_share(core.cells(), traces, lam_0, gradients(core.recurrent_parameters()))

    def _bounded(self, step: Step) -> dict[str, float | Tensor]:
        metrics: dict[str, float | Tensor] = {"rtrl/trace_breaks": float(self.breaks)}
        if self._config.rtrl.max_trace_norm is not None:
            self.clips = self.clips + step.traces.bound(self._config.rtrl.max_trace_norm)
            metrics["rtrl/trace_clips"] = self.clips
        return metrics
