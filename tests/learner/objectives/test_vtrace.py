"""The loss on whole rollouts: what dummy steps, terminations and truncations mean."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from actors.policy import PolicyUnroll
from learner.batcher import Batch
from learner.objectives.targets import clip_reward
from learner.objectives.vtrace import ActorCriticLoss, actor_critic_loss
from tests.learner.batches import DISTRIBUTION, SPEC, config, random_batch

T, B = 6, 3


def _unroll(seed: int = 0, t: int = T, b: int = B) -> PolicyUnroll:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(t, b, SPEC.num_actions, generator=g, dtype=torch.float64, requires_grad=True)
    baseline = torch.randn(t, b, generator=g, dtype=torch.float64, requires_grad=True)
    last = torch.randn(1, b, generator=g, dtype=torch.float64)
    return PolicyUnroll(logits, baseline, torch.cat([baseline[1:].detach(), last]), None)


def _gradients(unroll: PolicyUnroll, batch: Batch) -> tuple[ActorCriticLoss, torch.Tensor, torch.Tensor]:
    loss = actor_critic_loss(unroll, DISTRIBUTION, batch, config())
    logits, baseline = torch.autograd.grad(loss.total, [unroll.logits, unroll.baseline])
    return loss, logits, baseline


@pytest.mark.parametrize("how", ["terminated", "truncated"])
def test_dummy_step_carries_no_loss(how: str) -> None:
    batch = random_batch(T, B, seed=1, ends=[(2, 1, how)])
    loss, logits, baseline = _gradients(_unroll(), batch)
    assert loss.valid_steps == T * B - 1
    assert not logits[2, 1].any() and not baseline[2, 1].any()
    assert logits[1, 1].any() and baseline[3, 1].any()
    other = dataclasses.replace(batch, action=batch.action.clone())
    other.action[2, 1] = (other.action[2, 1] + 1) % SPEC.num_actions
    assert actor_critic_loss(_unroll(), DISTRIBUTION, other, config()).total == loss.total


UNCLIPPED: dict[str, Any] = dict.fromkeys(
    ("clip_rho_threshold", "clip_c_threshold", "clip_pg_rho_threshold"), None
)


@pytest.mark.parametrize("clips", [{}, UNCLIPPED], ids=["clipped", "unclipped"])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("what", ["logits", "behaviour_logits", "baseline", "next_baseline", "reward"])
def test_what_a_dummy_step_holds_reaches_neither_loss_nor_gradient_nor_metric(
    what: str, bad: float, clips: dict[str, Any]
) -> None:
    batch = random_batch(T, B, seed=1, ends=[(2, 1, "truncated")])

    def run(value: float | None) -> list[torch.Tensor]:
        unroll, spoiled = _unroll(), batch
        if value is not None and what in ("logits", "baseline"):
            fill = torch.zeros_like(getattr(unroll, what))
            fill[2, 1] = value
            unroll = unroll._replace(**{what: getattr(unroll, what) + fill})
        elif value is not None and what == "next_baseline":
            unroll.next_baseline[2, 1] = value
        elif value is not None:
            spoiled = dataclasses.replace(batch, **{what: getattr(batch, what).clone()})
            getattr(spoiled, what)[2 if what == "behaviour_logits" else 3, 1] = value
        loss = actor_critic_loss(unroll, DISTRIBUTION, spoiled, config(**clips))
        return [*loss, *torch.autograd.grad(loss.total, [unroll.logits, unroll.baseline])]

    for ours, clean in zip(run(bad), run(None), strict=True):
        torch.testing.assert_close(ours, clean, rtol=0, atol=0)


@pytest.mark.parametrize("clips", [{}, UNCLIPPED], ids=["clipped", "unclipped"])
def test_one_wild_ratio_leaves_loss_gradient_and_metrics_finite(clips: dict[str, Any]) -> None:
    batch, unroll = random_batch(T, B, seed=1, dtype=torch.float32), _unroll()
    batch.action[2, 1] = 0
    batch.behaviour_logits[2, 1] = torch.tensor([-200.0, 0.0, 0.0, 0.0])
    unroll = PolicyUnroll(*(t.detach().float().requires_grad_() for t in unroll[:3]), None)
    loss = actor_critic_loss(unroll, DISTRIBUTION, batch, config(**clips))
    gradients = torch.autograd.grad(loss.total, [unroll.logits, unroll.baseline])
    assert all(tensor.isfinite().all() for tensor in (*loss, *gradients))
    assert loss.rho_mean > 1e6


def _target_of_step_before_end(how: str, final_value: float) -> float:
    """d loss / d baseline at the last real step of an episode, as a function of V(final observation)."""
    batch = random_batch(T, B, seed=1, ends=[(2, 1, how)])
    unroll = _unroll()
    unroll.next_baseline[1, 1] = final_value
    return float(_gradients(unroll, batch)[2][1, 1])


def test_truncation_bootstraps_and_termination_does_not() -> None:
    assert _target_of_step_before_end("truncated", 0.0) != _target_of_step_before_end("truncated", 5.0)
    assert _target_of_step_before_end("terminated", 0.0) == _target_of_step_before_end("terminated", 5.0)


@pytest.mark.parametrize("how", ["terminated", "truncated"])
def test_two_episodes_in_one_rollout_equal_two_rollouts(how: str) -> None:
    end = 2
    batch, unroll = random_batch(T, 1, seed=4, ends=[(end, 0, how)]), _unroll(5, T, 1)
    whole, logits, baseline = _gradients(unroll, batch)

    def part(start: int, stop: int) -> tuple[ActorCriticLoss, torch.Tensor, torch.Tensor]:
        fields = ("observation", "reward", "terminated", "truncated", "reset", "previous_action")
        cut = dataclasses.replace(
            batch,
            **{name: getattr(batch, name)[start : stop + 1] for name in fields},
            action=batch.action[start:stop],
            behaviour_logits=batch.behaviour_logits[start:stop],
        )
        piece = PolicyUnroll(*(tensor[start:stop] for tensor in unroll[:3]), None)
        return _gradients(piece, cut)

    first, second = part(0, end), part(end + 1, T)
    torch.testing.assert_close(whole.total, first[0].total + second[0].total)
    torch.testing.assert_close(logits[:end], first[1][:end])
    torch.testing.assert_close(logits[end + 1 :], second[1])
    torch.testing.assert_close(baseline[end + 1 :], second[2])


def test_reward_belongs_to_the_action_before_it_and_is_clipped_in_the_loss_only() -> None:
    batch = random_batch(T, B, seed=1)
    big = dataclasses.replace(batch, reward=batch.reward.clone())
    big.reward[3, 0] = 100.0
    one = dataclasses.replace(batch, reward=batch.reward.clone())
    one.reward[3, 0] = 1.0
    assert _gradients(_unroll(), big)[0].total == _gradients(_unroll(), one)[0].total
    assert big.reward[3, 0] == 100.0
    unclipped = actor_critic_loss(_unroll(), DISTRIBUTION, big, config(reward_clipping="none"))
    assert unclipped.total != _gradients(_unroll(), one)[0].total
    first = dataclasses.replace(batch, reward=batch.reward.clone())
    first.reward[0] = 9.0  # came with x_0: an action before this rollout earned it
    assert _gradients(_unroll(), first)[0].total == _gradients(_unroll(), batch)[0].total


def test_on_policy_ratios_are_one_and_costs_weigh_the_parts() -> None:
    batch = random_batch(T, B, seed=1)
    unroll = _unroll()
    batch = dataclasses.replace(batch, behaviour_logits=unroll.logits.detach().clone())
    loss = actor_critic_loss(unroll, DISTRIBUTION, batch, config(baseline_cost=2.0, entropy_cost=3.0))
    assert loss.rho_mean == pytest.approx(1.0) and loss.c_mean == pytest.approx(1.0)
    assert loss.rho_clip_frac == 0.0
    assert loss.total.item() == pytest.approx(float(loss.policy + 2 * loss.baseline - 3 * loss.entropy))


def test_reward_scale_multiplies_the_clipped_reward() -> None:
    batch = random_batch(T, B, seed=1)
    scaled = actor_critic_loss(_unroll(), DISTRIBUTION, batch, config(reward_scale=0.25))
    by_hand = dataclasses.replace(batch, reward=batch.reward.clamp(-1, 1) * 0.25)
    torch.testing.assert_close(
        scaled.total, actor_critic_loss(_unroll(), DISTRIBUTION, by_hand, config()).total
    )
    assert scaled.total != actor_critic_loss(_unroll(), DISTRIBUTION, batch, config()).total


def test_soft_asymmetric_clipping_squashes_rewards_and_makes_light_of_losses() -> None:
    reward = torch.tensor([-1000.0, -5.0, -0.01, 0.0, 0.01, 1.0, 5.0, 1000.0], dtype=torch.float64)
    clipped = clip_reward(reward, "soft_asymmetric")
    # By hand: tanh(1) = 0.761594, tanh(0.2) = 0.197375.
    expected = [-1.5, -1.142391, -0.003, 0.0, 0.01, 0.986877, 3.807971, 5.0]
    torch.testing.assert_close(clipped, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)
    batch = random_batch(T, B, seed=1)
    by_hand = dataclasses.replace(batch, reward=clip_reward(batch.reward, "soft_asymmetric"))
    torch.testing.assert_close(
        actor_critic_loss(_unroll(), DISTRIBUTION, batch, config(reward_clipping="soft_asymmetric")).total,
        actor_critic_loss(_unroll(), DISTRIBUTION, by_hand, config(reward_clipping="none")).total,
    )
