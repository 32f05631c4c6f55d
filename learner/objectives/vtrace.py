"""The V-trace actor-critic loss (IMPALA, arXiv 1802.01561, section 4.2), on plain tensors.

Sums over T and B, as in the paper. A dummy step (one taken on the last observation of an episode,
whose action the env ignored) carries no loss, and the V-trace recursion is cut there. What it holds is
selected away at the door, never multiplied by 0: 0 * inf is NaN, and so is the gradient behind it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from actors.policy import PolicyUnroll
from actors.policy.distributions import Distribution
from configs.parts import RewardClipping
from configs.schema import Config
from kernels.vtrace import importance_ratio, vtrace
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
    """Mean importance ratio pi / mu over valid steps, before clipping (each at most e^20, kernels.vtrace)."""
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
    valid = ~ended[:-1]
    logits, mu_logits, action = (
        _select(valid, tensor) for tensor in (unroll.logits, batch.behaviour_logits, batch.action)
    )
    values = _select(valid, unroll.baseline)
    log_prob = distribution.log_prob(logits, action)
    log_mu = distribution.log_prob(mu_logits, action)
    log_rho = _select(valid, (log_prob - log_mu).detach())

    vs, pg_advantage = vtrace(
        log_rho,
        config.reward_scale * clip_reward(batch.reward[1:], config.reward_clipping),
        config.discounting * (~batch.terminated[1:]).to(log_rho.dtype),
        values.detach(),
        unroll.next_baseline,
        ~ended[1:],
        clip_rho=config.clip_rho_threshold,
        clip_c=config.clip_c_threshold,
        clip_pg_rho=config.clip_pg_rho_threshold,
        lambda_=config.lambda_,
    )
    policy = -_select(valid, log_prob * _select(valid, pg_advantage)).sum()
    baseline = 0.5 * _select(valid, vs - values).square().sum()
    entropy = _select(valid, distribution.entropy(logits)).sum()
    total = policy + config.baseline_cost * baseline - config.entropy_cost * entropy

    count = valid.sum().to(log_rho.dtype)
    steps = count.clamp(min=1.0)
    rho = importance_ratio(log_rho)
    clipped_rho = float("inf") if config.clip_rho_threshold is None else config.clip_rho_threshold
    clipped_c = float("inf") if config.clip_c_threshold is None else config.clip_c_threshold
    return Loss(
        total,
        policy.detach(),
        baseline.detach(),
        entropy.detach(),
        rho_mean=_select(valid, rho).sum() / steps,
        rho_clip_frac=(valid & (rho > clipped_rho)).sum() / steps,
        c_mean=config.lambda_ * _select(valid, rho.clamp(max=clipped_c)).sum() / steps,
        valid_steps=count,
    )


def _select(valid: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` [T, B, ...] where `valid` [T, B], else 0."""
    return torch.where(valid.view(*valid.shape, *[1] * (tensor.ndim - 2)), tensor, 0)
