"""Log-probabilities, entropies and samples against torch.distributions and numerical integration."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import distributions as oracle
from torch.nn import functional as F

from actors.policy import Policy
from actors.policy.distributions import Categorical, MultiCategorical, make_distribution
from actors.policy.gaussian import ClippedGaussian, SquashedGaussian
from configs.control import GaussianConfig
from configs.error import ConfigError
from configs.schema import PolicyConfig
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


def _numbers(mean: float, deviation: float) -> torch.Tensor:
    """The parameters of one dimension."""
    number = math.log(math.expm1(deviation - 1e-3)) - math.log(math.e - 1.0)
    return torch.tensor([mean, number], dtype=torch.float64)


MEANS, DEVIATIONS = st.floats(-3.0, 3.0), st.floats(0.02, 3.0)


@given(MEANS, DEVIATIONS)
def test_densities_integrate_to_one(mean: float, deviation: float) -> None:
    """That of the action on the wire; squashed, over the actions that the env takes."""
    parameters = _numbers(mean, deviation)
    u = mean + deviation * torch.linspace(-9.0, 9.0, 20_001, dtype=torch.float64)
    clipped = ClippedGaussian(1).log_prob(parameters.expand(len(u), -1), u[:, None]).exp()
    assert torch.trapezoid(clipped, u) == pytest.approx(1.0, abs=1e-9)
    squashed = SquashedGaussian(1).log_prob(parameters.expand(len(u), -1), u[:, None]).exp()
    assert torch.trapezoid(squashed, u.tanh()) == pytest.approx(1.0, abs=1e-3)


@given(MEANS, DEVIATIONS, st.floats(-20.0, 20.0))
def test_log_probabilities_are_scipys(mean: float, deviation: float, u: float) -> None:
    parameters, action = _numbers(mean, deviation), torch.tensor([u], dtype=torch.float64)
    normal = stats.norm.logpdf(u, mean, deviation)
    assert float(ClippedGaussian(1).log_prob(parameters, action)) == pytest.approx(normal, rel=1e-9, abs=1e-9)
    slope = 2.0 * (math.log(2.0) - abs(u) - math.log1p(math.exp(-2.0 * abs(u))))  # of tanh at u, even
    squashed = float(SquashedGaussian(1).log_prob(parameters, action))
    # Beyond 10 torch's softplus leaves out e^-20.
    assert squashed == pytest.approx(normal - slope, rel=1e-9, abs=1e-8)


@given(MEANS, DEVIATIONS)
def test_the_clipped_gaussians_entropy_is_scipys_whatever_the_clip(mean: float, deviation: float) -> None:
    entropy = float(ClippedGaussian(1).entropy(_numbers(mean, deviation)))
    assert entropy == pytest.approx(stats.norm.entropy(mean, deviation), rel=1e-9, abs=1e-9)


def test_a_clipped_action_stays_whole_on_the_wire_and_lies_within_bounds_for_the_env() -> None:
    ours, u = ClippedGaussian(2), torch.tensor([[-3.0, 0.25], [1.5, -1.0]])
    expected = torch.tensor([[-1.0, 0.25], [1.0, -1.0]])
    assert torch.equal(ours.to_env(u), expected) and torch.equal(ours.features(u), expected)
    far = torch.tensor([[9.0, -9.0, -5.0, -5.0]])
    sampled = ours.sample(far, torch.Generator().manual_seed(0))
    assert sampled[0, 0] > 1.0 and sampled[0, 1] < -1.0 and torch.equal(ours.mode(far), far[:, :2])


def test_the_gradient_of_a_clipped_policy_is_that_of_what_the_env_returns() -> None:
    """E[reward(clip(u)) d log p(u)] by sampling, against the derivative of the expectation by quadrature."""
    mean, deviation, samples = 0.8, 0.7, 400_000
    parameters = _numbers(mean, deviation).requires_grad_()
    u = torch.linspace(mean - 9 * deviation, mean + 9 * deviation, 40_001, dtype=torch.float64)

    def reward(action: torch.Tensor) -> torch.Tensor:
        return (action - 0.3).square()

    density = oracle.Normal(parameters[0], F.softplus(parameters[1] + math.log(math.e - 1.0)) + 1e-3)
    expected = torch.trapezoid(density.log_prob(u).exp() * reward(u.clamp(-1, 1)), u)
    exact = torch.autograd.grad(expected, parameters)[0]
    ours, many = ClippedGaussian(1), parameters.detach().expand(samples, -1)
    drawn = ours.sample(many, torch.Generator().manual_seed(0))
    earned = reward(ours.to_env(drawn)).squeeze(-1)
    log_prob = ours.log_prob(parameters.expand(samples, -1), drawn)
    estimate = torch.autograd.grad(((earned - earned.mean()) * log_prob).mean(), parameters)[0]
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.006)


CONTINUOUS = EnvSpec(
    id="x", observation_shape=(3,), observation_dtype="float32", num_actions=2, continuous_actions=True
)
DISCRETE = EnvSpec(id="x", observation_shape=(3,), observation_dtype="float32", num_actions=2)


def _policy(spec: EnvSpec, **gaussian: str) -> Policy:
    torch.manual_seed(0)
    options = GaussianConfig(**gaussian)  # type: ignore[arg-type]
    return Policy(spec, PolicyConfig(encoder="none", core="none", gaussian=options))


@pytest.mark.parametrize("bounds", ["squash", "clip"])
def test_a_free_deviation_is_the_same_in_every_state_and_is_learned(bounds: str) -> None:
    policy, by_network = (
        _policy(CONTINUOUS, deviation="free", bounds=bounds),
        _policy(CONTINUOUS, bounds=bounds),
    )
    assert isinstance(policy.distribution, {"squash": SquashedGaussian, "clip": ClippedGaussian}[bounds])
    h = torch.randn(7, 5, 4)
    free, network = policy.policy_head(h), by_network.policy_head(h)
    assert free.shape == network.shape == (7, 5, 4)
    assert free[..., 2:].unique().tolist() == [0.0] and len(network[..., 2:].unique()) == 70
    assert len(free[..., :2].unique()) == 70
    log_prob = policy.distribution.log_prob(free, free[..., :2].detach() + 0.5)
    gradient = torch.autograd.grad(log_prob.sum(), list(policy.policy_head.parameters()))
    assert [tuple(g.shape) for g in gradient] == [(2, 4), (2,), (2,)] and all(bool(g.any()) for g in gradient)


@pytest.mark.parametrize(("name", "value"), [("deviation", "free"), ("bounds", "clip")])
def test_discrete_actions_have_no_gaussian(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"policy.gaussian.{name} = '{value}': cannot take effect"):
        _policy(DISCRETE, **{name: value})
