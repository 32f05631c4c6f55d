"""The controls are what they say: each differs from RTRL in one thing, and in nothing else."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from actors.policy import Policy
from configs.schema import Config, ConfigError, PolicyConfig, RtrlConfig
from kernels.cells.elstm.core import ELSTM
from learner.batcher import Batch
from learner.learner import Learner
from tests.learner.batches import SPEC, config, random_batch

T, B, UPDATES = 6, 3, 5


def _learner(num_layers: int = 1, **changes: Any) -> Learner:
    torch.manual_seed(0)
    base: Config = config(**changes)
    policy = dataclasses.replace(base.policy, num_layers=num_layers)
    settings = dataclasses.replace(base, policy=policy, diagnostics_interval=1)
    return Learner(Policy(SPEC, policy).double(), settings, torch.device("cpu"))


def _batches(count: int = UPDATES, layers: int = 1, ends: bool = False) -> list[Batch]:
    """Successive rollouts of the same streams, episode ends at varied places if asked."""
    batches = []
    for number in range(count):
        at = [(number % (T - 1), number % B, "terminated")] if ends else []
        batch = random_batch(T, B, seed=number, ends=at, piece=(0, 7, number))
        batches.append(dataclasses.replace(batch, initial_state=batch.initial_state * layers))
    return batches


def _train(learner: Learner, batches: list[Batch]) -> list[dict[str, float]]:
    return [learner.update(batch) for batch in batches]


def _weights(learner: Learner) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in learner.policy.state_dict().items()}


def test_rtrl_without_the_boundary_term_is_tbptt_exactly() -> None:
    control = _learner(rtrl=RtrlConfig(boundary=False))
    tbptt, rtrl = _learner(credit="tbptt"), _learner()
    for learner in (control, tbptt, rtrl):
        _train(learner, _batches(ends=True))
    assert all(torch.equal(tensor, _weights(tbptt)[name]) for name, tensor in _weights(control).items())
    assert not torch.equal(_weights(rtrl)["core.W_z"], _weights(tbptt)["core.W_z"])


def test_immediate_credit_is_the_derivative_of_one_step() -> None:
    torch.manual_seed(0)
    core = ELSTM(4, 5).double()
    x, c_0 = torch.randn(T, B, 4, dtype=torch.float64), torch.randn(B, 5, dtype=torch.float64)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[2, 1] = reset[0, 2] = True
    weight = torch.randn(T, B, 5, dtype=torch.float64)
    h, (last,) = core.unroll_immediate(x, (c_0,), reset)
    (h * weight).sum().backward()
    found = {name: p.grad.clone() for name, p in core.named_parameters() if p.grad is not None}
    core.zero_grad()
    state, total = (c_0,), torch.zeros((), dtype=torch.float64)
    for t in range(T):
        output, state = core.step(x[t], (state[0].detach(),), reset[t])
        total = total + (output * weight[t]).sum()
    total.backward()
    for name, parameter in core.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last, state[0])
    torch.testing.assert_close(h, core.unroll(x, (c_0,), reset)[0])
    learner, exact = _learner(credit="immediate"), _learner(credit="tbptt")
    _train(learner, _batches(1))
    _train(exact, _batches(1))
    assert not torch.equal(_weights(learner)["core.W_z"], _weights(exact)["core.W_z"])


@pytest.mark.parametrize("core", ["elstm", "lstm", "gru"])
def test_a_frozen_core_stays_while_the_rest_learns(core: str) -> None:
    policy = PolicyConfig(encoder="none", core=core, hidden_size=5, freeze_core=True)
    learner = _learner(credit="tbptt", policy=policy)
    before = _weights(learner)
    _train(learner, _batches(2, layers=2 if core == "lstm" else 1))
    after = _weights(learner)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(not name.startswith("core.") or "output_gate" in name for name in moved)
    assert {"policy_head.weight", "baseline_head.weight"} <= moved
    assert ("core.output_gate.weight" in moved) == (core == "elstm")


def _join_states(policy: Policy, batches: list[Batch]) -> None:
    """One course of events: the state that a rollout begins with is the one its predecessor led to."""
    for before, after in pairwise(batches):
        parts = (before.observation, before.reward, before.reset, before.previous_action)
        x = policy.core_input(*(part[:T] for part in parts))
        with torch.no_grad():
            _, state, _ = policy.core.unroll(x, before.initial_state, before.reset[:T])
        after.initial_state[0].copy_(state[0])


def test_fresh_traces_do_not_reach_into_an_earlier_life() -> None:
    learner = _learner(learning_rate=1e-30, rtrl=RtrlConfig(staleness_interval=1))
    lives = [(5, 0), (5, 1), (9, 0), (9, 1), (9, 3), (9, 4)]
    batches = [random_batch(T, B, seed=n, piece=(0, *life)) for n, life in enumerate(lives)]
    _join_states(learner.policy, batches)
    cosines = [metrics["rtrl/staleness_cos"] for metrics in _train(learner, batches)]
    assert cosines == pytest.approx([1.0] * len(lives), abs=1e-12)


def test_carried_and_fresh_traces_agree_while_the_weights_rest_and_part_when_they_move() -> None:
    still = _learner(learning_rate=1e-30, rtrl=RtrlConfig(staleness_interval=1))
    batches = _batches(ends=True)
    _join_states(still.policy, batches)
    cosines = [metrics["rtrl/staleness_cos"] for metrics in _train(still, batches)]
    assert cosines == pytest.approx([1.0] * UPDATES, abs=1e-12)
    moving = _learner(learning_rate=0.05, rtrl=RtrlConfig(staleness_interval=1))
    cosines = [metrics["rtrl/staleness_cos"] for metrics in _train(moving, batches)]
    assert cosines[0] == pytest.approx(1.0) and all(-1.0 <= value < 1.0 - 1e-6 for value in cosines[1:])


def test_fresh_traces_train_and_differ_from_carried_ones() -> None:
    fresh, carried = _learner(rtrl=RtrlConfig(fresh_traces=True)), _learner()
    _train(fresh, _batches())
    _train(carried, _batches())
    assert not torch.equal(_weights(fresh)["core.W_z"], _weights(carried)["core.W_z"])


def test_bounding_traces_is_counted_and_changes_nothing_below_the_bound() -> None:
    free, loose = _learner(), _learner(rtrl=RtrlConfig(max_trace_norm=1e6))
    tight = _learner(rtrl=RtrlConfig(max_trace_norm=1e-2))
    _train(free, _batches())
    assert _train(loose, _batches())[-1]["rtrl/trace_clips"] == 0.0
    assert all(torch.equal(tensor, _weights(free)[name]) for name, tensor in _weights(loose).items())
    metrics = _train(tight, _batches())
    assert metrics[-1]["rtrl/trace_clips"] == B * UPDATES
    assert metrics[-1]["rtrl/trace_norm"] == pytest.approx(1e-2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"credit": "tbptt", "rtrl": RtrlConfig(boundary=False)},
            "rtrl.boundary = False: has no effect with credit = 'tbptt'",
        ),
        (
            {"policy": PolicyConfig(freeze_core=True)},
            "policy.freeze_core = True: a frozen core needs no credit",
        ),
        ({"credit": "immediate", "policy": PolicyConfig(core="lstm")}, "credit = 'immediate'"),
        (
            {"credit": "tbptt", "policy": None, "core": "none", "num_layers": 2},
            "policy.num_layers = 2: there is no core",
        ),
        ({"publish_interval": 0}, "publish_interval = 0"),
    ],
)
def test_a_control_that_cannot_take_effect_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        if changes.get("policy", True) is None:
            changes["policy"] = PolicyConfig(core=changes.pop("core"), num_layers=changes.pop("num_layers"))
        config(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"staleness_interval": -1},
        {"history_rollouts": 0},
        {"max_trace_norm": 0.0},
        {"boundary": False, "fresh_traces": True},
    ],
)
def test_bad_rtrl_value_names_the_field(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"rtrl.{next(iter(changes))} = "):
        RtrlConfig(**changes)


# --- depth ---------------------------------------------------------------------------------------------


def _stack_gradients(num_layers: int, chunks: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of a stack over joined chunks: by carried traces, and by full BPTT."""
    policy = _learner(num_layers).policy
    with torch.no_grad():
        for parameter in policy.core.recurrent_parameters():
            parameter.mul_(6.0)
    g = torch.Generator().manual_seed(1)
    x = torch.randn(chunks * T, B, 4, generator=g, dtype=torch.float64)
    weight = torch.randn(chunks * T, B, 5, generator=g, dtype=torch.float64)
    reset = torch.rand(chunks * T, B, generator=g) < 0.05

    def gradients() -> dict[str, Tensor]:
        found = {n: p.grad.clone() for n, p in policy.core.named_parameters() if p.grad is not None}
        policy.zero_grad()
        return found

    state, trace = policy.initial_state(B), policy.initial_trace(B)
    state = tuple(tensor.double() for tensor in state)
    for start in range(0, chunks * T, T):
        part = slice(start, start + T)
        h, state, trace = policy.core.unroll(x[part], state, reset[part], trace)
        (h * weight[part]).sum().backward()
        state = tuple(tensor.detach() for tensor in state)
    carried = gradients()
    h, _, _ = policy.core.unroll(x, tuple(t.double() for t in policy.initial_state(B)), reset)
    (h * weight).sum().backward()
    return carried, gradients()


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_a_stack_is_exact_at_its_top_and_off_by_a_stated_amount_below() -> None:
    carried, exact = _stack_gradients(num_layers=3, chunks=3)
    names = ("W_z", "W_f", "w_z", "w_f", "b_z", "b_f")
    for name in (f"layers.2.{n}" for n in (*names, "output_gate.weight")):
        assert _relative(carried[name], exact[name]) < 1e-12, name
    off = {layer: _relative(carried[f"layers.{layer}.W_z"], exact[f"layers.{layer}.W_z"]) for layer in (0, 1)}
    assert all(1e-6 < value < 0.5 for value in off.values()), off


def test_a_stack_within_one_chunk_is_exact_throughout() -> None:
    carried, exact = _stack_gradients(num_layers=3, chunks=1)
    assert max(_relative(carried[name], exact[name]) for name in exact) < 1e-12


def test_a_stack_learns_through_the_whole_learner() -> None:
    learner = _learner(num_layers=2)
    before = _weights(learner)
    metrics = _train(learner, _batches(layers=2, ends=True))
    assert all(not torch.equal(before[name], tensor) for name, tensor in _weights(learner).items())
    assert metrics[-1]["rtrl/boundary_grad_frac"] > 0.0
