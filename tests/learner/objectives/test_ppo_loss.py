"""PPO's loss, gradient and metrics, and GAE, against `ppo_by_hand.py`, with no constant at its default."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from configs.ppo import PpoConfig
from learner.objectives.ppo import Sample, explained_variance, ppo_loss
from learner.objectives.targets import gae_targets, select, steps_of
from tests.learner.batches import DISTRIBUTION, SPEC, config, random_batch
from tests.learner.objectives import ppo_by_hand
from tests.learner.objectives.by_hand import CONSTANTS
from tests.learner.objectives.ppo_by_hand import Clips

L, M = 7, 6
COSTS = {"baseline_cost": CONSTANTS.baseline_cost, "entropy_cost": CONSTANTS.entropy_cost}
VARIANTS = {
    "as it stands": Clips(clip=0.3, value_clip=None, normalise_advantages=True),
    "value clip": Clips(clip=0.3, value_clip=0.4, normalise_advantages=True),
    "raw advantages": Clips(clip=0.15, value_clip=0.7, normalise_advantages=False),
}
# Episodes that end at the first, at an inner, at neighbouring and at the last observation.
ENDS = [
    *((0, 0, "terminated"), (4, 0, "truncated")),
    *((3, 1, "terminated"), (L, 1, "truncated")),
    *((2, 2, "truncated"), (4, 2, "terminated"), (L - 1, 2, "truncated")),
    *((L, 3, "terminated"), (2, 3, "truncated")),
]


def _normal(g: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def make_case(valid: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Sample]:
    """logits, baseline, mu_logits and what the loss reads beside."""
    g = torch.Generator().manual_seed(3)
    mu_logits = _normal(g, L, M, SPEC.num_actions)
    logits = (mu_logits + 0.6 * _normal(g, L, M, SPEC.num_actions)).requires_grad_()
    old_values = _normal(g, L, M)
    baseline = (old_values + 0.5 * _normal(g, L, M)).requires_grad_()
    action = torch.randint(SPEC.num_actions, (L, M), generator=g)
    if valid is None:
        valid = torch.rand(L, M, generator=g) > 0.2
    log_mu = DISTRIBUTION.log_prob(mu_logits, action)
    sample = Sample(valid, action, log_mu, 2.0 * _normal(g, L, M), _normal(g, L, M), old_values)
    return logits, baseline, mu_logits, sample


def expect(clips: Clips, case: Any) -> ppo_by_hand.Expected:
    logits, baseline, mu_logits, sample = case
    arrays = {name: t.numpy() for name, t in sample._asdict().items() if name != "log_mu"}
    return ppo_by_hand.ppo(
        logits=logits.detach().numpy(),
        baseline=baseline.detach().numpy(),
        mu_logits=mu_logits.numpy(),
        constants=CONSTANTS,
        clips=clips,
        **arrays,
    )


def ours(clips: Clips, case: Any) -> Any:
    logits, baseline, _, sample = case
    settings = config(objective="ppo", ppo=PpoConfig(**dataclasses.asdict(clips), minibatches=1), **COSTS)
    return ppo_loss(logits, baseline, sample, DISTRIBUTION, settings)


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_gradient_and_metrics_are_those_by_hand(variant: str) -> None:
    case = make_case()
    expected, loss = expect(VARIANTS[variant], case), ours(VARIANTS[variant], case)
    for name in loss._fields:
        assert getattr(loss, name).item() == pytest.approx(getattr(expected, name), rel=1e-11), name
    assert 0.1 < expected.clip_frac < 0.9
    d_logits, d_baseline = torch.autograd.grad(loss.total, case[:2])
    np.testing.assert_allclose(d_logits.numpy(), expected.d_logits, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(d_baseline.numpy(), expected.d_baseline, rtol=1e-10, atol=1e-13)


def test_the_case_tells_every_clip_apart() -> None:
    case = make_case()
    base = expect(VARIANTS["value clip"], case)
    other = ({"clip": 0.31}, {"value_clip": 0.41}, {"value_clip": None}, {"normalise_advantages": False})
    for changes in other:
        changed = expect(dataclasses.replace(VARIANTS["value clip"], **changes), case)
        assert abs(changed.total - base.total) > 1e-4, changes


def test_the_gradient_by_hand_is_the_slope_of_the_loss_by_hand() -> None:
    clips, h = VARIANTS["value clip"], 1e-6
    logits, baseline, mu_logits, sample = make_case()
    base = expect(clips, (logits, baseline, mu_logits, sample))
    for which, gradient in ((0, base.d_logits), (1, base.d_baseline)):
        for index in np.ndindex(gradient.shape):
            totals = []
            for step in (h, -h):
                moved = [logits.detach().clone(), baseline.detach().clone()]
                moved[which][index] += step
                totals.append(expect(clips, (*moved, mu_logits, sample)).total)
            assert gradient[index] == pytest.approx((totals[0] - totals[1]) / (2 * h), abs=1e-7), index


def test_a_minibatch_of_dummies_alone_has_no_loss_and_no_gradient() -> None:
    case = make_case(torch.zeros(L, M, dtype=torch.bool))
    loss = ours(VARIANTS["value clip"], case)
    assert [value.item() for value in loss] == [0.0] * len(loss)
    assert not any(g.any() for g in torch.autograd.grad(loss.total, case[:2]))


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("what", ["logits", "baseline", "advantages", "log_mu"])
def test_what_a_dummy_step_holds_reaches_neither_loss_nor_gradient(what: str, bad: float) -> None:
    def run(spoiled: bool) -> list[torch.Tensor]:
        logits, baseline, mu_logits, sample = make_case()
        dummy = ~sample.valid
        assert dummy.any()
        fill = torch.where(dummy, bad if spoiled else 0.0, 0.0).double()
        if what == "logits":
            moved, values = logits + fill[..., None], baseline
        else:
            moved, values = logits, baseline + fill if what == "baseline" else baseline
        if what not in ("logits", "baseline"):
            sample = sample._replace(**{what: getattr(sample, what) + fill})
        loss = ours(VARIANTS["value clip"], (moved, values, mu_logits, sample))
        return [*loss, *torch.autograd.grad(loss.total, [logits, baseline])]

    for mine, clean in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(mine, clean, rtol=0, atol=0)


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("clipping", ["abs_one", "none"])
def test_gae_is_its_sum(clipping: Any, lambda_: float) -> None:
    constants = dataclasses.replace(CONSTANTS, lambda_=lambda_, reward_clipping=clipping)
    batch = random_batch(L, 5, seed=5, ends=ENDS, first_reset=[1])
    batch = dataclasses.replace(batch, reward=3.0 * batch.reward)
    g = torch.Generator().manual_seed(6)
    values, following = _normal(g, L, 5), _normal(g, L, 5)
    settings = config(**dataclasses.asdict(constants))
    steps = steps_of(batch, settings)
    targets = gae_targets(steps, values, following, settings)
    names = ("reward", "terminated", "truncated")
    expected = ppo_by_hand.gae(
        values=values.numpy(),
        next_values=following.numpy(),
        constants=constants,
        **{name: getattr(batch, name).numpy() for name in names},
    )
    assert np.array_equal(np.isnan(expected), ~steps.valid.numpy()) and np.isnan(expected).sum() == 7
    advantages = select(steps.valid, targets.advantages)
    np.testing.assert_allclose(advantages.numpy(), np.nan_to_num(expected), rtol=1e-11, atol=1e-12)
    returns = select(steps.valid, targets.values)
    expected_returns = np.nan_to_num(expected + values.numpy())
    np.testing.assert_allclose(returns.numpy(), expected_returns, rtol=1e-11, atol=1e-12)


def test_explained_variance_is_that_of_numpy_over_valid_steps() -> None:
    sample = make_case()[3]
    valid = sample.valid.numpy()
    rest, whole = (sample.targets - sample.old_values).numpy()[valid], sample.targets.numpy()[valid]
    assert explained_variance(sample).item() == pytest.approx(1 - rest.var() / whole.var())
    flat = sample._replace(targets=torch.ones_like(sample.targets))
    assert explained_variance(flat).item() == 0.0
