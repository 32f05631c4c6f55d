"""The V-trace actor-critic loss and its gradient, written from the paper for one step at a time.

Python floats and loops; nothing of `learner` or `kernels` is used. IMPALA, arXiv 1802.01561: the targets
are equation 1, summed out for each start in O(T^2); the gradients are those of section 4.2, derived by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Constants:
    """As in `configs.schema.Config`."""

    discounting: float
    lambda_: float
    clip_rho_threshold: float | None
    clip_c_threshold: float | None
    clip_pg_rho_threshold: float | None
    baseline_cost: float
    entropy_cost: float
    reward_scale: float
    reward_clipping: str


CONSTANTS = Constants(
    discounting=0.83,
    lambda_=0.7,
    clip_rho_threshold=1.3,
    clip_c_threshold=0.8,
    clip_pg_rho_threshold=1.9,
    baseline_cost=0.37,
    entropy_cost=0.21,
    reward_scale=1.7,
    reward_clipping="abs_one",
)
"""None of them a default."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    total: float
    policy: float
    baseline: float
    entropy: float
    rho_mean: float
    rho_clip_frac: float
    c_mean: float
    valid_steps: int
    d_logits: Array
    """[T, B, A] gradient of `total`; targets and advantages are constants."""
    d_baseline: Array
    """[T, B]"""
    targets: Array
    """[T, B] v_s; NaN at dummy steps."""
    advantages: Array
    """[T, B] rho (r + gamma v_{s+1} - V); NaN at dummy steps."""


def log_softmax(logits: Array) -> list[float]:
    top = max(float(value) for value in logits)
    total = sum(math.exp(float(value) - top) for value in logits)
    return [float(value) - top - math.log(total) for value in logits]


def at_most(value: float, bound: float | None) -> float:
    return value if bound is None or value < bound else bound


def learned_reward(raw: float, constants: Constants) -> float:
    if constants.reward_clipping == "abs_one":
        clipped = max(-1.0, min(1.0, raw))
    elif constants.reward_clipping == "soft_asymmetric":
        clipped = math.tanh(raw / 5.0) * (1.5 if raw < 0 else 5.0)
    else:
        clipped = raw
    return constants.reward_scale * clipped


def actor_critic(
    *,
    logits: Array,
    baseline: Array,
    next_baseline: Array,
    action: NDArray[np.int64],
    behaviour_logits: Array,
    reward: Array,
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    constants: Constants,
) -> Expected:
    """logits, behaviour_logits [T, B, A]; baseline, next_baseline, action [T, B]; the rest [T+1, B]."""
    T, B, A = logits.shape
    targets, advantages = np.full((T, B), np.nan), np.full((T, B), np.nan)
    d_logits, d_baseline = np.zeros((T, B, A)), np.zeros((T, B))
    policy = value_loss = entropy = 0.0
    ratios: list[float] = []
    for b in range(B):
        dummy = [bool(terminated[t, b]) or bool(truncated[t, b]) for t in range(T + 1)]
        log_pi = [log_softmax(logits[t, b]) for t in range(T)]
        log_mu = [log_softmax(behaviour_logits[t, b]) for t in range(T)]
        rho = [math.exp(log_pi[t][action[t, b]] - log_mu[t][action[t, b]]) for t in range(T)]
        earned = [learned_reward(float(reward[t + 1, b]), constants) for t in range(T)]
        # What the state after action t is worth counts, unless the env ended there by its own rules.
        gamma = [0.0 if terminated[t + 1, b] else constants.discounting for t in range(T)]
        value, following = [float(v) for v in baseline[:, b]], [float(v) for v in next_baseline[:, b]]

        for s in range(T):
            if dummy[s]:
                continue
            target, weight = value[s], 1.0
            for t in range(s, T):
                delta = earned[t] + gamma[t] * following[t] - value[t]
                target += weight * at_most(rho[t], constants.clip_rho_threshold) * delta
                if dummy[t + 1]:  # the episode ends on arriving there
                    break
                weight *= gamma[t] * constants.lambda_ * at_most(rho[t], constants.clip_c_threshold)
            targets[s, b] = target

        for s in range(T):
            if dummy[s]:
                continue
            ahead = targets[s + 1, b] if s + 1 < T and not dummy[s + 1] else following[s]
            importance = at_most(rho[s], constants.clip_pg_rho_threshold)
            advantages[s, b] = importance * (earned[s] + gamma[s] * ahead - value[s])
            pi = [math.exp(v) for v in log_pi[s]]
            disorder = -sum(p * log_p for p, log_p in zip(pi, log_pi[s], strict=True))
            policy -= advantages[s, b] * log_pi[s][action[s, b]]
            value_loss += (targets[s, b] - value[s]) ** 2 / 2.0
            entropy += disorder
            ratios.append(rho[s])
            d_baseline[s, b] = constants.baseline_cost * (value[s] - targets[s, b])
            for a in range(A):
                score = (1.0 if a == action[s, b] else 0.0) - pi[a]  # d log pi(action) / d logit a
                d_entropy = -pi[a] * (log_pi[s][a] + disorder)
                d_logits[s, b, a] = -advantages[s, b] * score - constants.entropy_cost * d_entropy

    steps = len(ratios)
    above = [constants.clip_rho_threshold is not None and r > constants.clip_rho_threshold for r in ratios]
    c = [constants.lambda_ * at_most(r, constants.clip_c_threshold) for r in ratios]
    return Expected(
        total=policy + constants.baseline_cost * value_loss - constants.entropy_cost * entropy,
        policy=policy,
        baseline=value_loss,
        entropy=entropy,
        rho_mean=sum(ratios) / max(steps, 1),
        rho_clip_frac=sum(above) / max(steps, 1),
        c_mean=sum(c) / max(steps, 1),
        valid_steps=steps,
        d_logits=d_logits,
        d_baseline=d_baseline,
        targets=targets,
        advantages=advantages,
    )
