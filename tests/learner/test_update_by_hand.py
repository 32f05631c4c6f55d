"""A whole update against one by hand: a linear policy, NumPy, the loss and the optimisers of `by_hand`.

Three updates of other rollouts, with no constant at its default: weights, losses, V-trace's metrics, norm
of the gradient, clip, schedule and lag. Then the optimiser alone, over gradients of every size.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from actors.policy import Policy
from configs.schema import Config, PolicyConfig
from learner.batcher import Batch
from learner.learner import Learner
from learner.optimizer import PolicyOptimizer
from tests.learner import optimizer_by_hand
from tests.learner.batches import SPEC, config, random_batch
from tests.learner.objectives.by_hand import CONSTANTS, actor_critic
from tests.learner.optimizer_by_hand import Arrays

T, B, UPDATES = 6, 3, 3
OPTIMIZERS = {
    "rmsprop": {"optimizer": "rmsprop", "alpha": 0.8, "epsilon": 0.03},
    "rmsprop with momentum": {"optimizer": "rmsprop", "alpha": 0.9, "epsilon": 1e-4, "momentum": 0.6},
    "adam": {"optimizer": "adam", "epsilon": 0.02},
}


def _config(**changes: Any) -> Config:
    settings = dataclasses.asdict(CONSTANTS) | {"total_steps": 5 * T * B, "learning_rate": 0.05} | changes
    return config(policy=PolicyConfig(encoder="none", core="none"), credit="tbptt", **settings)


def _batch(number: int) -> Batch:
    batch = random_batch(T, B, seed=number, ends=[(2, 1, "terminated"), (number, 0, "truncated")])
    lag = np.array([number, 0, number // 2])
    return dataclasses.replace(batch, reward=2.0 * batch.reward, policy_version_min=number - lag)


def _weights(policy: Policy) -> Arrays:
    return {name: tensor.detach().numpy().copy() for name, tensor in policy.named_parameters()}


def _by_hand(weights: Arrays, batch: Batch, optimizer: Any, settings: Config, update: int) -> dict[str, Any]:
    """Moves `weights`; returns the metrics that the update should report."""
    observation, reward = batch.observation.numpy(), batch.reward.numpy()
    x = np.concatenate([observation, np.clip(reward, -1, 1)[..., None]], -1)
    logits = x @ weights["policy_head.weight"].T + weights["policy_head.bias"]
    value = (x @ weights["baseline_head.weight"].T + weights["baseline_head.bias"])[..., 0]
    expected = actor_critic(
        logits=logits[:T],
        baseline=value[:T],
        next_baseline=value[1:],
        action=batch.action.numpy(),
        behaviour_logits=batch.behaviour_logits.numpy(),
        reward=reward,
        terminated=batch.terminated.numpy(),
        truncated=batch.truncated.numpy(),
        constants=CONSTANTS,
    )
    gradients = {
        "policy_head.weight": np.einsum("tba,tbd->ad", expected.d_logits, x[:T]),
        "policy_head.bias": expected.d_logits.sum((0, 1)),
        "baseline_head.weight": np.einsum("tb,tbd->d", expected.d_baseline, x[:T])[None],
        "baseline_head.bias": expected.d_baseline.sum((0, 1))[None],
    }
    rate = settings.learning_rate * (1 - update * T * B / settings.total_steps)
    clipped = optimizer_by_hand.clipped(gradients, settings.grad_norm_clipping)
    optimizer.step(weights, clipped, dict.fromkeys(weights, rate))
    steps, lag = expected.valid_steps, update - batch.policy_version_min
    return {
        **{f"losses/{n}": getattr(expected, n) / steps for n in ("total", "policy", "baseline", "entropy")},
        **{f"vtrace/{n}": getattr(expected, n) for n in ("rho_mean", "rho_clip_frac", "c_mean")},
        "losses/grad_norm": optimizer_by_hand.norm(gradients),
        "lag/policy_version_mean": lag.mean(),
        "lag/policy_version_max": lag.max(),
        "charts/learning_rate": rate,
        "charts/updates": update + 1,
    }


@pytest.mark.parametrize("grad_norm_clipping", [2.5, 1e6])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_three_updates_are_those_by_hand(optimizer: str, grad_norm_clipping: float) -> None:
    settings = _config(grad_norm_clipping=grad_norm_clipping, **OPTIMIZERS[optimizer])
    torch.manual_seed(3)
    policy = Policy(SPEC, settings.policy).double()
    learner = Learner(policy, settings, torch.device("cpu"))
    weights, by_hand = _weights(policy), optimizer_by_hand.make(settings)
    # Torch clips to max_norm / (norm + 1e-6).
    exact = 1e-6 if grad_norm_clipping < 10 else 1e-11
    for update in range(UPDATES):
        metrics = learner.update(_batch(update))
        expected = _by_hand(weights, _batch(update), by_hand, settings, update)
        for name, value in expected.items():
            assert metrics[name] == pytest.approx(value, rel=exact), (update, name)
        assert metrics["losses/grad_norm"] > 2.5  # the lower clip has an effect
        for name, array in _weights(policy).items():
            np.testing.assert_allclose(array, weights[name], rtol=exact, atol=exact, err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_optimizer_is_that_of_its_paper_and_the_encoder_has_a_rate_of_its_own(optimizer: str) -> None:
    settings = dataclasses.replace(
        _config(encoder_lr_scale=0.3, **OPTIMIZERS[optimizer]),
        policy=PolicyConfig(encoder="mlp", features=3, core="none"),
    )
    torch.manual_seed(4)
    policy = Policy(SPEC, settings.policy).double()
    ours, by_hand = PolicyOptimizer(policy, settings), optimizer_by_hand.make(settings)
    weights = _weights(policy)
    for step in range(6):
        ours.zero_grad()
        for parameter in policy.parameters():  # sizes far below and far above epsilon
            parameter.grad = torch.randn_like(parameter) * 10.0 ** (step - 4)
        gradients = {n: p.grad.numpy().copy() for n, p in policy.named_parameters() if p.grad is not None}
        rate = 0.1 / (step + 1)
        ours.step(rate, torch.tensor(True))
        rates = {name: rate * (0.3 if name.startswith("encoder.") else 1.0) for name in weights}
        by_hand.step(weights, gradients, rates)
        for name, array in _weights(policy).items():
            np.testing.assert_allclose(array, weights[name], rtol=1e-12, atol=1e-12, err_msg=name)
