"""PPO's loss, its gradient and GAE, written from the papers for one step at a time.

Python floats and loops; nothing of `learner` or `kernels` is used. PPO: arXiv 1707.06347, equation 7 and
section 5; the value clip: as in the baselines of its authors; GAE: arXiv 1506.02438, equation 16, summed out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.learner.objectives.by_hand import Array, Constants, learned_reward, log_softmax


def gae(
    *,
    values: Array,
    next_values: Array,
    reward: Array,
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    constants: Constants,
) -> Array:
    """[T, B] advantages; NaN at dummy steps. values, next_values [T, B]; the rest [T+1, B]."""
    T, B = values.shape
    advantages = np.full((T, B), np.nan)
    for b in range(B):
        dummy = [bool(terminated[t, b]) or bool(truncated[t, b]) for t in range(T + 1)]
        for s in range(T):
            if dummy[s]:
                continue
            total, weight = 0.0, 1.0
            for t in range(s, T):
                ahead = 0.0 if terminated[t + 1, b] else constants.discounting * float(next_values[t, b])
                earned = learned_reward(float(reward[t + 1, b]), constants)
                total += weight * (earned + ahead - float(values[t, b]))
                if dummy[t + 1]:
                    break
                weight *= constants.discounting * constants.lambda_
            advantages[s, b] = total
    return advantages


@dataclass(frozen=True, kw_only=True)
class Clips:
    """As in `configs.ppo.PpoConfig`."""

    clip: float
    value_clip: float | None
    normalise_advantages: bool


@dataclass(frozen=True, kw_only=True)
class Expected:
    total: float
    policy: float
    baseline: float
    entropy: float
    approx_kl: float
    clip_frac: float
    d_logits: Array
    d_baseline: Array


def ppo(
    *,
    logits: Array,
    baseline: Array,
    valid: NDArray[np.bool_],
    action: NDArray[np.int64],
    mu_logits: Array,
    advantages: Array,
    targets: Array,
    old_values: Array,
    constants: Constants,
    clips: Clips,
) -> Expected:
    """logits, mu_logits [L, M, A]; the rest [L, M]."""
    steps = [(int(t), int(m)) for t, m in np.argwhere(valid)]
    n = max(len(steps), 1)
    weight = {step: float(advantages[step]) for step in steps}
    if clips.normalise_advantages and steps:
        mean = sum(weight.values()) / n
        deviation = math.sqrt(sum((a - mean) ** 2 for a in weight.values()) / n)
        weight = {step: (a - mean) / (deviation + 1e-8) for step, a in weight.items()}
    d_logits, d_baseline = np.zeros_like(logits), np.zeros_like(baseline)
    policy = value_loss = entropy = kl = outside = 0.0
    for step in steps:
        log_pi, log_mu = log_softmax(logits[step]), log_softmax(mu_logits[step])
        taken = int(action[step])
        ratio = math.exp(log_pi[taken] - log_mu[taken])
        bounded = max(1.0 - clips.clip, min(1.0 + clips.clip, ratio))
        policy -= min(ratio * weight[step], bounded * weight[step]) / n
        # The gradient flows through the ratio, unless its clipped value was the smaller one.
        slope = -weight[step] * ratio / n if ratio * weight[step] <= bounded * weight[step] else 0.0
        pi = [math.exp(v) for v in log_pi]
        disorder = -sum(p * log_p for p, log_p in zip(pi, log_pi, strict=True))
        entropy += disorder / n
        kl += (ratio - 1.0 - math.log(ratio)) / n
        outside += (abs(ratio - 1.0) > clips.clip) / n
        for a in range(len(pi)):
            score = (1.0 if a == taken else 0.0) - pi[a]
            d_entropy = -pi[a] * (log_pi[a] + disorder) / n
            d_logits[(*step, a)] = slope * score - constants.entropy_cost * d_entropy

        value, old, target = (float(array[step]) for array in (baseline, old_values, targets))
        error, d_error = (value - target) ** 2, 2.0 * (value - target)
        if clips.value_clip is not None:
            moved = old + max(-clips.value_clip, min(clips.value_clip, value - old))
            if (moved - target) ** 2 > error:
                inside = abs(value - old) < clips.value_clip
                error, d_error = (moved - target) ** 2, 2.0 * (moved - target) if inside else 0.0
        value_loss += error / 2.0 / n
        d_baseline[step] = constants.baseline_cost * d_error / 2.0 / n
    return Expected(
        total=policy + constants.baseline_cost * value_loss - constants.entropy_cost * entropy,
        policy=policy,
        baseline=value_loss,
        entropy=entropy,
        approx_kl=kl,
        clip_frac=outside,
        d_logits=d_logits,
        d_baseline=d_baseline,
    )
