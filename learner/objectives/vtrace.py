"""The V-trace actor-critic (IMPALA, arXiv 1802.01561, section 4.2): one gradient step a batch.

The loss sums over T and B, as in the paper.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from actors.policy import PolicyUnroll
from actors.policy.distributions import Distribution
from configs.schema import Config
from kernels.vtrace import importance_ratio
from learner.batcher import Batch
from learner.objectives.objective import Loss
from learner.objectives.targets import select, steps_of, vtrace_targets
from learner.objectives.unrolled import Unrolled


class ActorCriticLoss(NamedTuple):
    """Scalars. The three parts are sums over valid steps, before their costs are applied."""

    total: Tensor
    """policy + baseline_cost * baseline - entropy_cost * entropy; what is differentiated."""
    policy: Tensor
    baseline: Tensor
    """Half the squared distance to the V-trace targets."""
    entropy: Tensor
    """Of the policy, in nats."""
    rho_mean: Tensor
    """Mean importance ratio pi / mu over valid steps, before clipping (each at most e^20, kernels.vtrace)."""
    rho_clip_frac: Tensor
    """Share of valid steps whose ratio was clipped."""
    c_mean: Tensor
    valid_steps: Tensor

    def metrics(self) -> dict[str, Tensor]:
        """Losses are means over valid steps, to compare across batch sizes."""
        steps = self.valid_steps.clamp(min=1.0)
        named = self._asdict()
        losses = {
            f"losses/{name}": named[name].detach() / steps
            for name in ("total", "policy", "baseline", "entropy")
        }
        return losses | {f"vtrace/{name}": named[name] for name in ("rho_mean", "rho_clip_frac", "c_mean")}


def actor_critic_loss(
    unroll: PolicyUnroll, distribution: Distribution, batch: Batch, config: Config
) -> ActorCriticLoss:
    """On plain tensors."""
    steps = steps_of(batch, config)
    valid = steps.valid
    logits, mu_logits, action = (
        select(valid, tensor) for tensor in (unroll.logits, batch.behaviour_logits, batch.action)
    )
    values = select(valid, unroll.baseline)
    log_prob = distribution.log_prob(logits, action)
    log_mu = distribution.log_prob(mu_logits, action)
    log_rho = select(valid, (log_prob - log_mu).detach())

    vs, pg_advantage = vtrace_targets(steps, log_rho, values.detach(), unroll.next_baseline, config)
    policy = -select(valid, log_prob * select(valid, pg_advantage)).sum()
    baseline = 0.5 * select(valid, vs - values).square().sum()
    entropy = select(valid, distribution.entropy(logits)).sum()
    total = policy + config.baseline_cost * baseline - config.entropy_cost * entropy

    count = valid.sum().to(log_rho.dtype)
    num_steps = count.clamp(min=1.0)
    rho = importance_ratio(log_rho)
    clipped_rho = float("inf") if config.clip_rho_threshold is None else config.clip_rho_threshold
    clipped_c = float("inf") if config.clip_c_threshold is None else config.clip_c_threshold
    return ActorCriticLoss(
        total,
        policy.detach(),
        baseline.detach(),
        entropy.detach(),
        rho_mean=select(valid, rho).sum() / num_steps,
        rho_clip_frac=(valid & (rho > clipped_rho)).sum() / num_steps,
        c_mean=config.lambda_ * select(valid, rho.clamp(max=clipped_c)).sum() / num_steps,
        valid_steps=count,
    )


class VTrace(Unrolled):
    def loss(self, unroll: PolicyUnroll, batch: Batch) -> Loss:
        loss = actor_critic_loss(unroll, self.policy.distribution, batch, self.config)
        return Loss(loss.total, loss.metrics())
