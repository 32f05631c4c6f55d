"""Exactness where it is claimed: weights frozen, the gradient of two joined rollouts through the real
policy, its output gate and heads, the real loss and the trace bank equals full BPTT by autograd."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from actors.policy import Policy, PolicyUnroll
from learner.batcher import Batch
from learner.objectives.vtrace import actor_critic_loss
from learner.rtrl.trace_bank import TraceBank
from tests.learner.batches import DISTRIBUTION, SPEC, config, random_batch

T, B = 6, 3
RECURRENT = ("W_z", "W_f", "w_z", "w_f", "b_z", "b_f")


def _policy(previous_action: bool = False, **options: Any) -> Policy:
    torch.manual_seed(3)
    policy_config = dataclasses.replace(config().policy, previous_action=previous_action, **options)
    policy = Policy(SPEC, policy_config).double()
    with torch.no_grad():  # larger weights, so that the past matters and a missing term shows
        for name in RECURRENT:
            policy.core.get_parameter(name).mul_(6.0)
    return policy


def _seam(ends_first: list[tuple[int, int, str]], ends_second: list[tuple[int, int, str]]) -> list[Batch]:
    """Two rollouts of the same streams: x_T of the first is x_0 of the second, flags included."""
    first = random_batch(T, B, seed=1, ends=ends_first, first_reset=[0])
    second = random_batch(T, B, seed=2, ends=ends_second, piece=(0, 7, 1))
    for name in ("observation", "reward", "terminated", "truncated", "reset", "previous_action"):
        getattr(second, name)[0] = getattr(first, name)[T]
    ended = second.terminated[0] | second.truncated[0]
    second.reset[1] |= ended
    second.reward[1][ended] = 0.0
    return [first, second]


CASES = {
    "no reset": ([], []),
    "inside": ([(2, 1, "terminated")], [(3, 0, "truncated")]),
    "at the seam": ([(T - 1, 1, "terminated"), (T, 2, "truncated")], []),
    "first step": ([(0, 1, "truncated")], [(1, 2, "terminated")]),
    "last step": ([(T - 2, 0, "terminated")], [(T - 1, 1, "terminated")]),
    "consecutive": (
        [(1, 2, "terminated"), (3, 2, "truncated")],
        [(2, 2, "terminated"), (4, 2, "terminated")],
    ),
}


def _rtrl_gradient(policy: Policy, batches: list[Batch], *, traces: bool) -> dict[str, torch.Tensor]:
    policy.zero_grad()
    bank = TraceBank(policy.initial_trace(B)) if traces else None
    state = batches[0].initial_state
    for batch in batches:
        trace = bank.traces(batch.streams)[0].for_core if bank is not None else None
        observation = (batch.observation, batch.reward, batch.reset)
        unroll = policy.unroll(*observation, state, batch.previous_action, trace)
        actor_critic_loss(unroll, DISTRIBUTION, batch, config(entropy_cost=0.1)).total.backward()
        with torch.no_grad():
            _, state, _ = policy.core.unroll(_core_input(policy, batch), state, batch.reset[:T])
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def _core_input(policy: Policy, batch: Batch) -> torch.Tensor:
    return policy.core_input(
        batch.observation[:T], batch.reward[:T], batch.reset[:T], batch.previous_action[:T]
    )


def _bptt_gradient(policy: Policy, batches: list[Batch]) -> dict[str, torch.Tensor]:
    """Autograd through every step of both rollouts: the core is stepped, never unrolled by the op."""
    policy.zero_grad()
    state = batches[0].initial_state
    total = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        logits, baselines = [], []
        for t in range(T):
            step = policy.step(
                batch.observation[t], batch.reward[t], batch.reset[t], state, batch.previous_action[t]
            )
            state = step.state
            logits.append(step.logits)
            baselines.append(step.baseline)
        with torch.no_grad():
            last = policy.step(
                batch.observation[T], batch.reward[T], batch.reset[T], state, batch.previous_action[T]
            ).baseline
        baseline = torch.stack(baselines)
        following = torch.cat([baseline[1:].detach(), last.unsqueeze(0)])
        unroll = PolicyUnroll(torch.stack(logits), baseline, following, None)
        total = total + actor_critic_loss(unroll, DISTRIBUTION, batch, config(entropy_cost=0.1)).total
    total.backward()
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def _distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max() / b[name].abs().max()) for name in a)


@pytest.mark.parametrize("previous_action", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_two_joined_rollouts_equal_full_bptt(case: str, previous_action: bool) -> None:
    policy, batches = _policy(previous_action), _seam(*CASES[case])
    exact = _bptt_gradient(policy, batches)
    assert _distance(_rtrl_gradient(policy, batches, traces=True), exact) < 1e-12
    if case == "no reset":  # without the boundary term the same check must fail, or it would show nothing
        assert _distance(_rtrl_gradient(policy, batches, traces=False), exact) > 1e-3


@pytest.mark.parametrize("bypass", [False, True])
def test_a_bypass_makes_the_gradient_of_an_encoder_exact_too(bypass: bool) -> None:
    policy, batches = _policy(encoder="mlp", features=5, bypass=bypass), _seam(*CASES["inside"])
    exact, found = _bptt_gradient(policy, batches), _rtrl_gradient(policy, batches, traces=True)
    encoder = [name for name in exact if name.startswith("encoder.")]
    assert len(encoder) == 4
    off = _distance({name: found[name] for name in encoder}, {name: exact[name] for name in encoder})
    rest = exact.keys() - set(encoder)
    assert _distance({name: found[name] for name in rest}, {name: exact[name] for name in rest}) < 1e-12
    assert off < 1e-12 if bypass else off > 1e-3


def test_every_recurrent_parameter_is_among_those_compared() -> None:
    gradient = _rtrl_gradient(_policy(), _seam([], []), traces=True)
    assert {f"core.{name}" for name in RECURRENT} <= gradient.keys()
    assert {"core.output_gate.weight", "policy_head.weight", "baseline_head.weight"} <= gradient.keys()
