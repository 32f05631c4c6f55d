"""Log-probabilities, entropies and samples against torch.distributions and numerical integration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions as oracle
from torch.nn import functional as F

from actors.policy.distributions import (
    Categorical,
    MultiCategorical,
    SquashedGaussian,
    make_distribution,
)
from envs.spec import EnvSpec


def _parameters(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_categorical_agrees_with_torch() -> None:
    parameters, action = _parameters(4, 3, 5), torch.randint(5, (4, 3))
    expected = oracle.Categorical(logits=parameters)
    ours = Categorical(5)
    torch.testing.assert_close(ours.log_prob(parameters, action), expected.log_prob(action))
    torch.testing.assert_close(ours.entropy(parameters), expected.entropy())
    assert torch.equal(ours.mode(parameters), parameters.argmax(-1))
    assert ours.features(action).shape == (4, 3, 5) and ours.to_env(action) is action


SIZES = (3, 1, 4, 2)


def test_several_choices_are_independent_ones_taken_together() -> None:
    parameters = _parameters(5, 3, sum(SIZES)).requires_grad_()
    action = torch.stack([torch.randint(size, (5, 3)) for size in SIZES], dim=-1)
    each = [oracle.Categorical(logits=logits) for logits in parameters.split(SIZES, dim=-1)]
    ours = MultiCategorical(SIZES)
    assert (ours.num_parameters, ours.action_shape) == (10, (4,))
    log_prob = torch.stack([one.log_prob(action[..., i]) for i, one in enumerate(each)]).sum(0)
    torch.testing.assert_close(ours.log_prob(parameters, action), log_prob)
    entropy = torch.stack([one.entropy() for one in each]).sum(0)
    torch.testing.assert_close(ours.entropy(parameters), entropy)
    torch.testing.assert_close(
        torch.autograd.grad((ours.log_prob(parameters, action) + ours.entropy(parameters)).sum(), parameters)[
            0
        ],
        torch.autograd.grad((log_prob + entropy).sum(), parameters)[0],
    )
    best = torch.stack([logits.argmax(-1) for logits in parameters.split(SIZES, dim=-1)], dim=-1)
    assert torch.equal(ours.mode(parameters), best)
    hot = torch.cat([F.one_hot(action[..., i], size) for i, size in enumerate(SIZES)], dim=-1)
    assert torch.equal(ours.features(action), hot) and ours.to_env(action) is action


def test_an_impossible_choice_leaves_the_others_alone() -> None:
    """As a policy that has become certain of one: its logit is far above the others."""
    parameters = torch.tensor([[0.0, 2000.0, -2000.0, 0.0, 0.0]]).requires_grad_()
    ours = MultiCategorical((3, 2))
    entropy = ours.entropy(parameters)
    torch.testing.assert_close(entropy, torch.tensor([math.log(2.0)]))
    assert torch.autograd.grad(entropy, parameters)[0].isfinite().all()
    assert (ours.sample(parameters.detach(), torch.Generator().manual_seed(0))[:, 0] == 1).all()


def _gaussian(parameters: torch.Tensor) -> oracle.Normal:
    mean, number = parameters.chunk(2, dim=-1)
    return oracle.Normal(mean, F.softplus(number + math.log(math.e - 1)) + 1e-3)


def test_squashed_gaussian_has_the_density_of_the_squashed_action() -> None:
    parameters, u = _parameters(4, 3, 4), _parameters(4, 3, 2)
    squash = oracle.transforms.TanhTransform(cache_size=1)
    expected = oracle.TransformedDistribution(_gaussian(parameters), [squash])
    ours = SquashedGaussian(2)
    torch.testing.assert_close(ours.log_prob(parameters, u), expected.log_prob(squash(u)).sum(-1))
    assert ours.log_prob(parameters, 40.0 + u).isfinite().all(), "saturated actions keep a finite density"
    assert torch.equal(ours.to_env(u), u.tanh()) and torch.equal(ours.features(u), u.tanh())
    assert torch.equal(ours.mode(parameters), parameters[..., :2])


def test_entropy_of_the_squashed_gaussian_by_integration() -> None:
    parameters = _parameters(6, 2).requires_grad_()
    base = _gaussian(parameters.detach())
    u = base.mean + base.stddev * torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    log_p = SquashedGaussian(1).log_prob(parameters.detach()[:, None], u[..., None])
    density = base.log_prob(u).exp()
    expected = -torch.trapezoid(density * log_p, u, dim=1)
    entropy = SquashedGaussian(1).entropy(parameters)
    torch.testing.assert_close(entropy, expected, rtol=0, atol=2e-3)
    assert torch.autograd.grad(entropy.sum(), parameters)[0].isfinite().all()


@pytest.mark.parametrize("kind", ["discrete", "continuous", "several"])
def test_samples_follow_the_density(kind: str) -> None:
    spec = EnvSpec(
        id="x",
        observation_shape=(1,),
        observation_dtype="float32",
        num_actions=2,
        continuous_actions=kind == "continuous",
        action_sizes=(3, 2) if kind == "several" else (),
    )
    distribution = make_distribution(spec)
    parameters = _parameters(distribution.num_parameters).float().expand(200_000, -1)
    action = distribution.sample(parameters, torch.Generator().manual_seed(0))
    assert action.shape == (200_000, *distribution.action_shape)
    assert action.dtype == getattr(torch, distribution.action_dtype)
    mean_log_prob = distribution.log_prob(parameters, action).mean()
    torch.testing.assert_close(-mean_log_prob, distribution.entropy(parameters[0]), rtol=0, atol=0.01)
