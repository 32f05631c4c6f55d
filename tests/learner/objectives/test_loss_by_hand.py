"""The loss, its gradient and its metrics against `by_hand.py`, with no constant at its default."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from actors.policy import PolicyUnroll
from learner.batcher import Batch
from learner.objectives.vtrace import actor_critic_loss
from tests.learner.batches import DISTRIBUTION, SPEC, config, random_batch
from tests.learner.objectives.by_hand import CONSTANTS, Constants, Expected, actor_critic

T, B = 9, 5
EXACT = {"rel": 1e-11, "abs": 1e-12}

VARIANTS = {
    "all clips": {},
    "no clips": {"clip_rho_threshold": None, "clip_c_threshold": None, "clip_pg_rho_threshold": None},
    "rho alone": {"clip_c_threshold": None, "clip_pg_rho_threshold": None},
    "c alone": {"clip_rho_threshold": None, "clip_pg_rho_threshold": None},
    "pg rho alone": {"clip_rho_threshold": None, "clip_c_threshold": None},
    "soft rewards": {"reward_clipping": "soft_asymmetric"},
    "raw rewards": {"reward_clipping": "none"},
    "no discount, no cut of credit": {"discounting": 1.0, "lambda_": 1.0},
    "one step": {"lambda_": 0.0},
}
# Episodes that end at the first, at an inner, at neighbouring and at the last observation; column 4 has none.
ENDS = [
    *((0, 0, "terminated"), (5, 0, "truncated")),
    *((3, 1, "terminated"), (T, 1, "truncated")),
    *((4, 2, "truncated"), (6, 2, "terminated"), (T - 1, 2, "truncated")),
    *((T, 3, "terminated"), (2, 3, "truncated")),
]


def make_case(ends: Any = ENDS) -> tuple[Batch, PolicyUnroll]:
    batch = random_batch(T, B, seed=5, ends=ends, first_reset=[1])
    batch = dataclasses.replace(batch, reward=3.0 * batch.reward)  # many beyond the clip
    g = torch.Generator().manual_seed(6)
    logits = torch.randn(T, B, SPEC.num_actions, generator=g, dtype=torch.float64).requires_grad_()
    baseline = 2.0 * torch.randn(T, B, generator=g, dtype=torch.float64)
    last = torch.randn(1, B, generator=g, dtype=torch.float64)
    following = torch.cat([baseline[1:], last])
    return batch, PolicyUnroll(logits, baseline.requires_grad_(), following, None)


def expect(batch: Batch, unroll: PolicyUnroll, constants: Constants, **changes: Any) -> Expected:
    arrays = {
        "logits": unroll.logits.detach(),
        "baseline": unroll.baseline.detach(),
        "next_baseline": unroll.next_baseline,
        "behaviour_logits": batch.behaviour_logits,
        "action": batch.action,
        "reward": batch.reward,
        "terminated": batch.terminated,
        "truncated": batch.truncated,
    }
    return actor_critic(**{name: t.numpy() for name, t in arrays.items()} | changes, constants=constants)


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_gradient_and_metrics_are_those_of_the_paper(variant: str) -> None:
    constants = dataclasses.replace(CONSTANTS, **VARIANTS[variant])
    batch, unroll = make_case()
    expected = expect(batch, unroll, constants)
    loss = actor_critic_loss(unroll, DISTRIBUTION, batch, config(**dataclasses.asdict(constants)))
    for name in ("total", "policy", "baseline", "entropy", "rho_mean", "rho_clip_frac", "c_mean"):
        assert getattr(loss, name).item() == pytest.approx(getattr(expected, name), **EXACT), name
    assert int(loss.valid_steps) == expected.valid_steps == T * B - 7
    d_logits, d_baseline = torch.autograd.grad(loss.total, [unroll.logits, unroll.baseline])
    np.testing.assert_allclose(d_logits.numpy(), expected.d_logits, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(d_baseline.numpy(), expected.d_baseline, rtol=1e-11, atol=1e-12)


def test_the_case_tells_every_constant_apart() -> None:
    """Changing any constant changes the loss by far more than the tolerance above."""
    batch, unroll = make_case()
    base = expect(batch, unroll, CONSTANTS)
    assert 0.1 < base.rho_clip_frac < 0.9
    for field in dataclasses.fields(Constants):
        value = getattr(CONSTANTS, field.name)
        other = "none" if isinstance(value, str) else 1.01 * value
        changed = expect(batch, unroll, dataclasses.replace(CONSTANTS, **{field.name: other}))
        assert abs(changed.total - base.total) > 1e-4, field.name


def test_the_gradient_by_hand_is_the_slope_of_the_loss_by_hand() -> None:
    """Central differences of -A log pi - cost * H and of the squared error, with A and the targets fixed."""
    batch, unroll = make_case()
    base, h = expect(batch, unroll, CONSTANTS), 1e-6
    logits, baseline = unroll.logits.detach().numpy(), unroll.baseline.detach().numpy()
    action = batch.action.numpy()

    def surrogate(logits: np.ndarray, baseline: np.ndarray) -> float:
        log_pi = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        taken = np.take_along_axis(log_pi, action[..., None], -1)[..., 0]
        entropy = -(np.exp(log_pi) * log_pi).sum(-1)
        squares = 0.5 * CONSTANTS.baseline_cost * (base.targets - baseline) ** 2
        steps = -base.advantages * taken + squares - CONSTANTS.entropy_cost * entropy
        return float(steps[~np.isnan(base.targets)].sum())

    assert surrogate(logits, baseline) == pytest.approx(base.total)
    for which, gradient in ((0, base.d_logits), (1, base.d_baseline)):
        for index in np.ndindex(gradient.shape):
            slopes = []
            for step in (h, -h):
                moved = [logits.copy(), baseline.copy()]
                moved[which][index] += step
                slopes.append(surrogate(*moved))
            assert gradient[index] == pytest.approx((slopes[0] - slopes[1]) / (2 * h), abs=1e-7), index


def test_a_batch_of_dummies_alone_has_no_loss_and_no_gradient() -> None:
    batch, unroll = make_case([(t, b, "truncated") for t in range(T + 1) for b in range(B)])
    loss = actor_critic_loss(unroll, DISTRIBUTION, batch, config(**dataclasses.asdict(CONSTANTS)))
    assert [value.item() for value in loss] == [0.0] * len(loss)
    assert not any(g.any() for g in torch.autograd.grad(loss.total, [unroll.logits, unroll.baseline]))
