"""Proximal policy optimisation (arXiv 1707.06347): several epochs of gradient steps a batch, each on
a minibatch of sub-chunks.

    batch --one pass without gradient--> values --GAE or V-trace--> targets, advantages
                                     '-> state and trace before each sub-chunk
    each epoch: sub-chunks, shuffled --> minibatches --unroll from state and trace--> loss

Losses are means over the valid steps of the minibatch, as in the paper (V-trace's here are sums over the
batch). The ratio is to the policy that acted. With RTRL a sub-chunk's gradient is its own plus the boundary
term of the trace before it: exact for weights frozen since that trace was built, and they move with each
minibatch. docs/rtrl.md says what is stale where. The bank's rows move on once a batch, by the first pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from actors.policy import Policy, State
from actors.policy.distributions import Distribution
from configs.schema import Config
from kernels.rtrl import FixedTrace, Trace
from kernels.vtrace import importance_ratio
from learner.batcher import Batch
from learner.objectives.chunks import Pass, draw, for_core, run
from learner.objectives.objective import Loss
from learner.objectives.targets import gae_targets, select, steps_of, surrogate_vtrace_targets
from learner.records.timing import Stopwatch
from learner.rtrl.rtrl import Rtrl, Step


class Sample(NamedTuple):
    """What the loss reads beside the policy's outputs; all [T, B] of a batch, [L, M] of a minibatch."""

    valid: Tensor
    action: Tensor
    """[..., *action shape]"""
    log_mu: Tensor
    """Log-probability of the action under the policy that acted."""
    advantages: Tensor
    targets: Tensor
    old_values: Tensor
    """V(x_t) before the first epoch."""


class PpoLoss(NamedTuple):
    """Scalars, means over valid steps."""

    total: Tensor
    """policy + baseline_cost * baseline - entropy_cost * entropy; what is differentiated."""
    policy: Tensor
    baseline: Tensor
    """Half the squared distance to the targets."""
    entropy: Tensor
    """Of the policy, in nats."""
    approx_kl: Tensor
    """KL(mu || pi), estimated by r - 1 - log r: unbiased for r = pi / mu, and never negative."""
    clip_frac: Tensor
    """Share of steps whose ratio lies outside 1 +- clip."""

    def metrics(self) -> dict[str, Tensor]:
        return {
            "losses/total": self.total.detach(),
            "losses/policy": self.policy,
            "losses/baseline": self.baseline,
            "losses/entropy": self.entropy,
            "ppo/approx_kl": self.approx_kl,
            "ppo/clip_frac": self.clip_frac,
        }


def ppo_loss(
    logits: Tensor, baseline: Tensor, sample: Sample, distribution: Distribution, config: Config
) -> PpoLoss:
    """On plain tensors: logits [L, M, P], baseline [L, M]."""
    ppo, valid = config.ppo, sample.valid
    count = valid.sum().clamp(min=1).to(baseline.dtype)

    def mean(tensor: Tensor) -> Tensor:
        return select(valid, tensor).sum() / count

    logits, action, values = (select(valid, tensor) for tensor in (logits, sample.action, baseline))
    advantages = select(valid, sample.advantages)
    if ppo.normalise_advantages:
        advantages = advantages - mean(advantages)
        advantages = advantages / (mean(advantages.square()).sqrt() + 1e-8)
    log_ratio = select(valid, distribution.log_prob(logits, action) - sample.log_mu)
    ratio = importance_ratio(log_ratio)
    clipped = ratio.clamp(1.0 - ppo.clip, 1.0 + ppo.clip)
    policy = -mean(torch.minimum(ratio * advantages, clipped * advantages))

    error = (values - sample.targets).square()
    if ppo.value_clip is not None:
        moved = (values - sample.old_values).clamp(-ppo.value_clip, ppo.value_clip)
        error = torch.maximum(error, (sample.old_values + moved - sample.targets).square())
    baseline = 0.5 * mean(error)
    entropy = mean(distribution.entropy(logits))
    with torch.no_grad():
        approx_kl = mean(ratio - 1.0 - log_ratio)
        clip_frac = mean(((ratio - 1.0).abs() > ppo.clip).to(ratio.dtype))
    total = policy + config.baseline_cost * baseline - config.entropy_cost * entropy
    return PpoLoss(
        total, policy.detach(), baseline.detach(), entropy.detach(), approx_kl=approx_kl, clip_frac=clip_frac
    )


def explained_variance(sample: Sample) -> Tensor:
    """1 - Var(target - V) / Var(target) over valid steps, V of before the first epoch; 0 where no two targets
    differ."""

    def variance(tensor: Tensor) -> Tensor:
        count = sample.valid.sum().clamp(min=1)
        mean = select(sample.valid, tensor).sum() / count
        return select(sample.valid, (tensor - mean).square()).sum() / count

    rest, whole = variance(sample.targets - sample.old_values), variance(sample.targets)
    return torch.where(whole > 0, 1.0 - rest / whole, 0.0)


class Ppo:
    def __init__(self, policy: Policy, config: Config, rtrl: Rtrl | None) -> None:
        self._policy, self._config, self._rtrl = policy, config, rtrl
        self._length = config.ppo.chunk_of(config.unroll_length)
        self._generator = torch.Generator().manual_seed(config.seed)

    def losses(self, batch: Batch, update: int, watch: Stopwatch) -> Iterator[Loss]:
        ppo = self._config.ppo
        step = None if self._rtrl is None else self._rtrl.begin(batch, update)
        start = None if step is None else step.carried or step.traces.gather()
        if step is not None:
            watch.lap("rtrl")
        first = before = run(self._policy, batch, self._length, start)
        sample = self._sample(batch, first, first)
        for epoch in range(ppo.epochs):
            if epoch > 0 and (ppo.fresh_gradient or ppo.fresh_targets):
                again = run(self._policy, batch, self._length, start if ppo.fresh_gradient else None)
                before = again if ppo.fresh_gradient else before
                sample = self._sample(batch, first, again) if ppo.fresh_targets else sample
            explained = explained_variance(sample)
            for chunks in self._minibatches(batch):
                state, traces = _rows(before, chunks)
                if step is not None and step.carried is not None:
                    state = tuple(tensor.requires_grad_() for tensor in state)
                loss = self._loss(batch, sample, chunks, state, traces)
                metrics = loss.metrics() | {"ppo/explained_variance": explained}
                watch.lap("forward")
                if step is None:
                    yield Loss(loss.total, metrics)
                else:  # the batch's first step: later ones would measure weights that have moved
                    yield Loss(loss.total, metrics, partial(self._finish, step, first, state, traces, watch))
                    step = None

    def _sample(self, batch: Batch, first: Pass, present: Pass) -> Sample:
        """Targets by the values (V-trace's: and the policy) of `present`."""
        steps = steps_of(batch, self._config)
        values = select(steps.valid, present.values)
        action = select(steps.valid, batch.action)
        log_pi, log_mu = (
            self._policy.distribution.log_prob(select(steps.valid, logits), action)
            for logits in (present.logits, batch.behaviour_logits)
        )
        if self._config.ppo.targets == "vtrace":
            ratios = select(steps.valid, log_pi - log_mu)
            targets = surrogate_vtrace_targets(steps, ratios, values, present.next_values, self._config)
        else:
            targets = gae_targets(steps, values, present.next_values, self._config)
        chosen = (targets.advantages, targets.values, first.values)
        return Sample(steps.valid, action, log_mu, *(select(steps.valid, tensor) for tensor in chosen))

    def _minibatches(self, batch: Batch) -> Iterator[Tensor]:
        """Every sub-chunk once, shuffled: indices [M]."""
        T, B = batch.reset[:-1].shape
        order = torch.randperm(T // self._length * B, generator=self._generator)
        return iter(order.to(batch.reset.device, non_blocking=True).view(self._config.ppo.minibatches, -1))

    def _loss(
        self, batch: Batch, sample: Sample, chunks: Tensor, state: State, traces: list[Trace] | None
    ) -> PpoLoss:
        inputs = (batch.observation, batch.reward, batch.reset, batch.previous_action)
        observation, reward, reset, action = (draw(part, self._length, chunks) for part in inputs)
        trace = None if traces is None else for_core([FixedTrace(layer) for layer in traces])
        chunk = self._policy.chunk(observation, reward, reset, state, action, trace, self._config.credit)
        part = Sample(*(draw(tensor, self._length, chunks) for tensor in sample))
        return ppo_loss(chunk.logits, chunk.baseline, part, self._policy.distribution, self._config)

    def _finish(
        self, step: Step, first: Pass, state: State, traces: list[Trace] | None, watch: Stopwatch
    ) -> dict[str, float | Tensor]:
        assert self._rtrl is not None and first.advanced is not None and traces is not None
        metrics = self._rtrl.advance(step, first.advanced)
        if step.carried is not None:
            metrics |= self._rtrl.measure(traces, state)
        watch.lap("rtrl")
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"shuffling": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "shuffling" in state:  # not where the run had another objective until now
            self._generator.set_state(state["shuffling"])


def _rows(before: Pass, chunks: Tensor) -> tuple[State, list[Trace] | None]:
    """State and traces before the sub-chunks [M]."""
    state = tuple(tensor[chunks] for tensor in before.states)
    if before.traces is None:
        return state, None
    return state, [layer.map(lambda s: s[chunks]) for layer in before.traces]
