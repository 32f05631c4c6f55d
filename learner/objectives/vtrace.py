"""The V-trace actor-critic loss (IMPALA, arXiv 1802.01561, section 4.2), on plain tensors.

Sums over T and B, as in the paper. A dummy step (one taken on the last observation of an episode,
whose action the env ignored) carries no loss, and the V-trace recursion is cut there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from actors.policy import PolicyUnroll
from actors.policy.distributions import Distribution
from configs.parts import RewardClipping
from configs.schema import Config
from kernels.vtrace import vtrace
from learner.batcher import Batch


class Loss(NamedTuple):
    """Scalars. The three parts are sums over valid steps, before their costs are applied."""

    total: Tensor
    """policy + baseline_cost * baseline - entropy_cost * entropy; what is differentiated."""
    policy: Tensor
    baseline: Tensor
    """Half the squared distance to the V-trace targets."""
    entropy: Tensor
    """Of the policy, in nats."""
    rho_mean: Tensor
    """Mean importance ratio pi / mu over valid steps, before clipping."""
    rho_clip_frac: Tensor
    """Share of valid steps whose ratio was clipped."""
    c_mean: Tensor
    valid_steps: Tensor


def clip_reward(reward: Tensor, clipping: RewardClipping) -> Tensor:
    """`soft_asymmetric`: 5 tanh(r / 5), which is in (-5, 5), and 0.3 times that where r is negative. So in
    the code that IMPALA's authors published (google-deepmind/scalable_agent)."""
    if clipping == "abs_one":
        return reward.clamp(-1.0, 1.0)
    if clipping == "soft_asymmetric":
        squashed = 5.0 * torch.tanh(reward / 5.0)
        return torch.where(reward < 0, 0.3 * squashed, squashed)
    return reward


def actor_critic_loss(unroll: PolicyUnroll, distribution: Distribution, batch: Batch, config: Config) -> Loss:
    """Truncation bootstraps from the value of the true last observation; termination does not."""
    ended = batch.terminated | batch.truncated
    valid = (~ended[:-1]).to(unroll.logits.dtype)
    log_prob = distribution.log_prob(unroll.logits, batch.action)
    log_mu = distribution.log_prob(batch.behaviour_logits, batch.action)
    log_rho = (log_prob - log_mu).detach()

    vs, pg_advantage = vtrace(
        log_rho,
        config.reward_scale * clip_reward(batch.reward[1:], config.reward_clipping),
        config.discounting * (~batch.terminated[1:]).to(log_rho.dtype),
        unroll.baseline.detach(),
        unroll.next_baseline,
        ~ended[1:],
        clip_rho=config.clip_rho_threshold,
        clip_c=config.clip_c_threshold,
        clip_pg_rho=config.clip_pg_rho_threshold,
        lambda_=config.lambda_,
    )
    policy = -(valid * log_prob * pg_advantage).sum()
    baseline = 0.5 * (valid * (vs - unroll.baseline).square()).sum()
    entropy = (valid * distribution.entropy(unroll.logits)).sum()
    total = policy + config.baseline_cost * baseline - config.entropy_cost * entropy

    steps = valid.sum().clamp(min=1.0)
    rho = log_rho.exp()
    clipped_rho = float("inf") if config.clip_rho_threshold is None else config.clip_rho_threshold
    clipped_c = float("inf") if config.clip_c_threshold is None else config.clip_c_threshold
    return Loss(
        total,
        policy.detach(),
        baseline.detach(),
        entropy.detach(),
        rho_mean=(valid * rho).sum() / steps,
        rho_clip_frac=(valid * (rho > clipped_rho)).sum() / steps,
        c_mean=config.lambda_ * (valid * rho.clamp(max=clipped_c)).sum() / steps,
        valid_steps=valid.sum(),
    )
