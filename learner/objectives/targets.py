"""What every objective reads of a batch, and the targets of its values: V-trace, or GAE.

A dummy step (one taken on the last observation of an episode, whose action the env ignored) carries no loss,
and the recursions are cut there. What it holds is selected away at the door, never multiplied by 0: 0 * inf
is NaN, and so is the gradient behind it. Truncation bootstraps from the value of the true last observation;
termination does not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from configs.parts import RewardClipping
from configs.schema import Config
from kernels.trace.reference import select_product
from kernels.vtrace import vtrace
from learner.batcher import Batch


class Steps(NamedTuple):
    """All [T, B]."""

    valid: Tensor
    """False at a dummy step."""
    rewards: Tensor
    """Of action t: clipped and scaled."""
    discounts: Tensor
    """gamma; 0 where action t ended the episode by its own rules."""
    continues: Tensor
    """Step t+1 is of the same episode and no dummy."""


class Targets(NamedTuple):
    """Both [T, B], without gradient."""

    values: Tensor
    """What the value function is drawn to."""
    advantages: Tensor
    """Weights of the policy's gradient."""


def steps_of(batch: Batch, config: Config) -> Steps:
    ended = batch.terminated | batch.truncated
    rewards = config.reward_scale * clip_reward(batch.learned_reward, config.reward_clipping)
    discounts = config.discounting * (~batch.terminated[1:]).to(rewards.dtype)
    return Steps(~ended[:-1], rewards, discounts, ~ended[1:])


def clip_reward(reward: Tensor, clipping: RewardClipping) -> Tensor:
    """`soft_asymmetric`: 5 tanh(r / 5), which is in (-5, 5), and 0.3 times that where r is negative. So in
    the code that IMPALA's authors published (google-deepmind/scalable_agent)."""
    if clipping == "abs_one":
        return reward.clamp(-1.0, 1.0)
    if clipping == "soft_asymmetric":
        squashed = 5.0 * torch.tanh(reward / 5.0)
        return torch.where(reward < 0, 0.3 * squashed, squashed)
    return reward


def vtrace_targets(
    steps: Steps, log_rhos: Tensor, values: Tensor, next_values: Tensor, config: Config
) -> Targets:
    """V-trace (IMPALA, arXiv 1802.01561, section 4.1); the advantages carry their clipped ratio.

    log_rhos: log pi - log mu of the actions. values, next_values: V(x_t), V(x_{t+1}). All [T, B], without
    gradient, and selected at dummy steps.
    """
    returns = vtrace(
        log_rhos,
        steps.rewards,
        steps.discounts,
        values,
        next_values,
        steps.continues,
        clip_rho=config.clip_rho_threshold,
        clip_c=config.clip_c_threshold,
        clip_pg_rho=config.clip_pg_rho_threshold,
        lambda_=config.lambda_,
    )
    return Targets(returns.vs, returns.pg_advantages)


def surrogate_vtrace_targets(
    steps: Steps, log_rhos: Tensor, values: Tensor, next_values: Tensor, config: Config
) -> Targets:
    """V-trace's values v; the advantages r + gamma v_{t+1} - V(x_t) are without the ratio, which a clipped
    surrogate has already. Arguments as in `vtrace_targets`."""
    v = vtrace_targets(steps, log_rhos, values, next_values, config).values
    following = torch.cat([torch.where(steps.continues[:-1], v[1:], next_values[:-1]), next_values[-1:]])
    return Targets(v, steps.rewards + select_product(steps.discounts, following) - values)


def gae_targets(steps: Steps, values: Tensor, next_values: Tensor, config: Config) -> Targets:
    """Generalised advantage estimation (arXiv 1506.02438): A_t is the sum of (gamma lambda)^k delta_{t+k} up
    to the episode's end, and the values' targets are V + A, the lambda-returns.

    On-policy and unclipped V-trace, whose corrections vs - V are these advantages. Arguments as in
    `vtrace_targets`.
    """
    returns = vtrace(
        torch.zeros_like(values),
        steps.rewards,
        steps.discounts,
        values,
        next_values,
        steps.continues,
        clip_rho=None,
        clip_c=None,
        clip_pg_rho=None,
        lambda_=config.lambda_,
    )
    return Targets(returns.vs, returns.vs - values)


def select(valid: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` [T, B, ...] where `valid` [T, B], else 0."""
    return torch.where(valid.view(*valid.shape, *[1] * (tensor.ndim - 2)), tensor, 0)
