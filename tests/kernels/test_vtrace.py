"""V-trace against the paper's formula, and over episode ends."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.vtrace import vtrace

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
st = hypothesis.strategies

NAMES = ("log_rhos", "rewards", "discounts", "values", "next_values", "continues")
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def make_inputs(T: int, B: int, seed: int = 0, episode_ends: float = 0.2) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(T + 1, B, generator=g, dtype=torch.float64)
    return {
        "log_rhos": torch.randn(T, B, generator=g, dtype=torch.float64) * 0.7,
        "rewards": torch.randn(T, B, generator=g, dtype=torch.float64),
        "discounts": 0.9 * (torch.rand(T, B, generator=g) > episode_ends / 2).double(),
        "values": values[:-1],
        "next_values": values[1:],
        "continues": torch.rand(T, B, generator=g) > episode_ends,
    }


def by_definition(inputs, clip_rho, clip_c, clip_pg_rho, lambda_) -> tuple[Tensor, Tensor]:
    """IMPALA, equation 1, summed out term by term for every start: O(T^2), one stream at a time."""

    def clipped(rho: float, clip: float | None) -> float:
        return rho if clip is None else min(rho, clip)

    T, B = inputs["values"].shape
    vs, advantages = torch.zeros(T, B).double(), torch.zeros(T, B).double()
    for b in range(B):
        log_rho, r, gamma, v, v_next, goes_on = (inputs[name][:, b].tolist() for name in NAMES)
        rho = [math.exp(value) for value in log_rho]
        for s in range(T):
            total, weight = v[s], 1.0
            for t in range(s, T):
                total += weight * clipped(rho[t], clip_rho) * (r[t] + gamma[t] * v_next[t] - v[t])
                weight *= gamma[t] * lambda_ * clipped(rho[t], clip_c) * goes_on[t]
            vs[s, b] = total
        for s in range(T):
            ahead = vs[s + 1, b].item() if s + 1 < T and goes_on[s] else v_next[s]
            advantages[s, b] = clipped(rho[s], clip_pg_rho) * (r[s] + gamma[s] * ahead - v[s])
    return vs, advantages


@pytest.mark.parametrize("T", [1, 2, 25])
@pytest.mark.parametrize(
    "clips", [(1.0, 1.0, 1.0, 1.0), (0.7, 1.4, 2.0, 0.9), (None, 1.0, None, 1.0), (1.2, None, 0.6, 0.0)]
)
def test_equals_the_formula_of_the_paper(T, clips):
    inputs = make_inputs(T, 4, seed=T)
    rhos = inputs["log_rhos"].exp()
    if T == 25:  # both sides of every clip occur
        assert all(((rhos > clip).any() and (rhos < clip).any()) for clip in clips[:3] if clip is not None)
    ours = vtrace(**inputs, clip_rho=clips[0], clip_c=clips[1], clip_pg_rho=clips[2], lambda_=clips[3])
    vs, advantages = by_definition(inputs, *clips)
    torch.testing.assert_close(ours.vs, vs, **EXACT)
    torch.testing.assert_close(ours.pg_advantages, advantages, **EXACT)


@hypothesis.given(
    T=st.integers(1, 9),
    B=st.integers(1, 3),
    seed=st.integers(0, 999),
    ends=st.sampled_from([0.0, 0.3, 1.0]),
)
@hypothesis.settings(max_examples=50, deadline=None, derandomize=True)
def test_equals_the_formula_of_the_paper_anywhere(T, B, seed, ends):
    inputs = make_inputs(T, B, seed, ends)
    vs, advantages = by_definition(inputs, 1.0, 1.0, 1.0, 0.95)
    ours = vtrace(**inputs, lambda_=0.95)
    torch.testing.assert_close(ours.vs, vs, **EXACT)
    torch.testing.assert_close(ours.pg_advantages, advantages, **EXACT)


def test_on_policy_it_is_the_n_step_return():
    inputs = make_inputs(12, 3, seed=1, episode_ends=0.0)
    inputs["log_rhos"].zero_()
    returns = inputs["next_values"][-1]
    ours = vtrace(**inputs)
    for t in reversed(range(12)):
        returns = inputs["rewards"][t] + inputs["discounts"][t] * returns
        torch.testing.assert_close(ours.vs[t], returns, **EXACT)
        torch.testing.assert_close(ours.pg_advantages[t], returns - inputs["values"][t], **EXACT)


def episode_end(terminated: bool) -> dict[str, Any]:
    """Five steps on policy whose episode ends on arriving at observation 2; step 2 is the dummy."""
    inputs = make_inputs(5, 1, seed=2, episode_ends=0.0)
    inputs["log_rhos"].zero_()
    inputs["continues"][1] = False
    if terminated:
        inputs["discounts"][1] = 0
    return inputs


def test_a_truncated_episode_bootstraps_from_its_final_observation():
    inputs = episode_end(terminated=False)
    target = inputs["rewards"][1] + 0.9 * inputs["next_values"][1]
    torch.testing.assert_close(vtrace(**inputs).vs[1], target, **EXACT)


def test_a_terminated_episode_does_not():
    inputs = episode_end(terminated=True)
    torch.testing.assert_close(vtrace(**inputs).vs[1], inputs["rewards"][1], **EXACT)


def test_nothing_of_the_dummy_step_reaches_back():
    clean = episode_end(terminated=True)
    spoiled = {name: value.clone() for name, value in clean.items()}
    for name in ("log_rhos", "rewards", "values", "next_values"):
        spoiled[name][2] = torch.inf
    a, b = vtrace(**clean), vtrace(**spoiled)
    for name in ("vs", "pg_advantages"):
        valid = [0, 1, 3, 4]
        torch.testing.assert_close(getattr(b, name)[valid], getattr(a, name)[valid], rtol=0, atol=0)


def test_two_episodes_in_one_rollout_are_two_rollouts():
    inputs = make_inputs(11, 3, seed=3, episode_ends=0.0)
    inputs["continues"][6] = False
    whole = vtrace(**inputs)
    parts = [vtrace(**{n: v[here] for n, v in inputs.items()}) for here in (slice(7), slice(7, 11))]
    for name in ("vs", "pg_advantages"):
        joined = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(getattr(whole, name), joined, rtol=0, atol=0)


def test_lambda_zero_looks_one_step_ahead():
    inputs = make_inputs(6, 2, seed=4)
    rho = inputs["log_rhos"].exp().clamp(max=1)
    target = inputs["rewards"] + inputs["discounts"] * inputs["next_values"]
    expected = inputs["values"] + rho * (target - inputs["values"])
    torch.testing.assert_close(vtrace(**inputs, lambda_=0.0).vs, expected, **EXACT)


def test_no_gradient_flows_through():
    inputs = make_inputs(4, 2)
    for name in NAMES[:-1]:
        inputs[name] = inputs[name].clone().requires_grad_()
    result = vtrace(**inputs)
    assert not result.vs.requires_grad and not result.pg_advantages.requires_grad


def test_float32_stays_float32():
    inputs = {n: (v.float() if v.is_floating_point() else v) for n, v in make_inputs(4, 2).items()}
    assert {tensor.dtype for tensor in vtrace(**inputs)} == {torch.float32}


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_wrong_shape_dtype_or_device_is_named(name):
    inputs = make_inputs(4, 2)
    tensor = inputs.pop(name)
    with pytest.raises(ValueError, match=f"^{name} has shape"):
        vtrace(**inputs, **{name: tensor[:, :1]})
    with pytest.raises(ValueError, match=f"^{name} is torch.float16, expected"):
        vtrace(**inputs, **{name: tensor.half()})
    with pytest.raises(ValueError, match=f"^{name} is on meta"):
        vtrace(**inputs, **{name: tensor.to("meta")})


def test_bad_log_rhos_are_named():
    inputs = make_inputs(4, 2)
    log_rhos = inputs.pop("log_rhos")
    with pytest.raises(ValueError, match=r"^log_rhos has shape \[4\]"):
        vtrace(log_rhos[:, 0], **inputs)
    with pytest.raises(ValueError, match="T >= 1"):
        vtrace(log_rhos[:0], **inputs)
    with pytest.raises(ValueError, match=r"^log_rhos is torch.int64"):
        vtrace(log_rhos.long(), **inputs)


@pytest.mark.parametrize("name", ["clip_rho", "clip_c", "clip_pg_rho"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_bad_clip_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} = .*must be positive"):
        vtrace(**make_inputs(2, 2), **{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_bad_lambda_is_named(value):
    with pytest.raises(ValueError, match=r"^lambda_ = "):
        vtrace(**make_inputs(2, 2), lambda_=value)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match=r"^backend = 'fast'"):
        vtrace(**make_inputs(2, 2), backend="fast")
