"""One update: what moves, what is refused, what is reported."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from actors.policy import Policy
from configs.ppo import PpoConfig
from configs.schema import Config, ConfigError, PolicyConfig, RtrlConfig
from learner.learner import Learner, LearnerError, resolve_device
from learner.records import timing
from learner.records.metrics import METRICS
from tests.learner.batches import SPEC, config, random_batch

T, B = 6, 3
CPU = torch.device("cpu")


def _learner(**changes: Any) -> Learner:
    torch.manual_seed(0)
    settings: Config = config(**changes)
    return Learner(Policy(SPEC, settings.policy), settings, CPU)


def _batch(number: int = 0, **changes: Any) -> Any:
    batch = random_batch(T, B, seed=number, dtype=torch.float32, piece=(0, 7, number))
    return dataclasses.replace(batch, **changes)


def _weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in learner.policy.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_an_update_moves_weights_counts_steps_and_reports_known_metrics(optimizer: str) -> None:
    learner = _learner(optimizer=optimizer)
    before = _weights(learner)
    metrics = learner.update(_batch())
    after = _weights(learner)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert (learner.updates, learner.global_step) == (1, T * B)
    assert metrics.keys() <= METRICS.keys()
    assert all(math.isfinite(value) for value in metrics.values())
    assert {"rtrl/trace_norm", "rtrl/boundary_grad_frac"} <= metrics.keys()


def test_what_rtrl_measures_is_no_time_of_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor of the unroll: each is timed by a clock that only the named part moves."""
    now = 0.0
    learner = _learner(rtrl=RtrlConfig(staleness_interval=1))
    assert learner.rtrl is not None

    def slow(part: str, seconds: float, function: Any) -> Any:
        def run(*arguments: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*arguments)

        return run

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(learner.rtrl, "begin", slow("rtrl", 1.0, learner.rtrl.begin))
    monkeypatch.setattr(learner.rtrl, "finish", slow("rtrl", 2.0, learner.rtrl.finish))
    monkeypatch.setattr(learner.optimizer, "step", slow("optimizer", 4.0, learner.optimizer.step))
    metrics = learner.update(_batch())
    laps = {name: value for name, value in metrics.items() if name.startswith("perf/")}
    expected = {"rtrl": 3000.0, "optimizer": 4000.0, "forward": 0.0, "backward": 0.0}
    assert laps == {f"perf/time_{name}_ms": value for name, value in expected.items()}


PPO: dict[str, Any] = {"objective": "ppo", "ppo": PpoConfig(epochs=2, minibatches=3)}


def test_ppo_reports_known_metrics_and_its_boundary_term_comes_with_the_second_batch() -> None:
    learner = _learner(**PPO, diagnostics_interval=1)
    first, second = learner.update(_batch(0)), learner.update(_batch(1))
    assert first.keys() == second.keys() <= METRICS.keys()
    assert all(math.isfinite(value) for value in (*first.values(), *second.values()))
    assert first["rtrl/trace_norm"] == first["rtrl/boundary_grad_frac"] == 0.0
    assert second["rtrl/trace_norm"] > 0.0 and second["rtrl/boundary_grad_frac"] > 0.0
    assert (learner.updates, learner.global_step, second["charts/updates"]) == (2, 2 * T * B, 2)


def test_ppo_bounds_traces_once_a_batch() -> None:
    learner = _learner(**PPO, rtrl=RtrlConfig(max_trace_norm=1e-3))
    assert [learner.update(_batch(n))["rtrl/trace_clips"] for n in range(2)] == [B, 2 * B]
    assert learner.rtrl is not None
    rows = learner.rtrl.bank.traces(_batch(2).streams)[0].gather()[0]
    squares = sum(tensor.flatten(1).square().sum(1) for tensor in rows)
    torch.testing.assert_close(squares, torch.full((B,), 1e-6))


def test_an_error_between_two_steps_of_a_batch_leaves_weights_that_are_not_saved() -> None:
    learner = _learner(**PPO)
    before, step, steps = _weights(learner), learner.optimizer.step, 0

    def fail(learning_rate: float, sound: torch.Tensor) -> None:
        nonlocal steps
        steps += bool(sound)
        step(learning_rate, sound)
        with torch.no_grad():  # the next loss is of these: not finite, though every weight is
            next(learner.policy.baseline_head.parameters()).fill_(1e38)

    learner.optimizer.step = fail  # type: ignore[method-assign]
    with pytest.raises(LearnerError, match=r"update 0 at step 0: loss (inf|nan)"):
        learner.update(_batch())
    assert steps == 1 and learner.updates == 0 and not learner.is_sound()
    after = learner.policy.state_dict()
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())


def test_first_update_has_no_boundary_and_the_second_has() -> None:
    learner = _learner(diagnostics_interval=1)
    first, second = learner.update(_batch(0)), learner.update(_batch(1))
    assert first["rtrl/trace_norm"] == first["rtrl/boundary_grad_frac"] == 0.0
    assert second["rtrl/trace_norm"] > 0.0
    assert second["rtrl/boundary_grad_frac"] > 0.0


def test_learning_rate_falls_linearly_to_zero() -> None:
    learner = _learner(total_steps=4 * T * B, learning_rate=1e-3)
    rates = [learner.update(_batch(n))["charts/learning_rate"] for n in range(5)]
    assert rates == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4, 0.0])


def test_gradient_is_clipped_to_the_global_norm() -> None:
    learner = _learner(grad_norm_clipping=0.5)
    assert learner.update(_batch())["losses/grad_norm"] > 0.5
    squares = [p.grad.square().sum() for p in learner.policy.parameters() if p.grad is not None]
    assert float(torch.stack(squares).sum().sqrt()) == pytest.approx(0.5, rel=1e-4)


def test_a_loss_that_is_not_finite_stops_before_any_weight_moves() -> None:
    learner = _learner()
    before = _weights(learner)
    with pytest.raises(LearnerError, match="update 0 at step 0: loss nan"):
        learner.update(_batch(observation=torch.full((T + 1, B, 3), float("nan"))))
    assert all(torch.equal(before[name], t) for name, t in learner.policy.state_dict().items())


def test_a_gradient_that_is_not_finite_stops_too_where_the_loss_is() -> None:
    learner = _learner(policy=PolicyConfig(encoder="none", core="none"), credit="tbptt")
    before = _weights(learner)
    with pytest.raises(LearnerError, match=r"loss -?\d\S*, gradient norm (inf|nan)"):
        learner.update(_batch(observation=torch.full((T + 1, B, 3), 1e16)))
    assert all(torch.equal(before[name], t) for name, t in learner.policy.state_dict().items())
    assert learner.updates == learner.global_step == 0


def test_a_gradient_of_nan_behind_a_finite_loss_moves_no_weight() -> None:
    learner = _learner()
    before = _weights(learner)
    for parameter in learner.policy.core.parameters():
        parameter.register_hook(lambda gradient: torch.full_like(gradient, float("nan")))
    with pytest.raises(LearnerError, match=r"loss -?\d\S*, gradient norm nan"):
        learner.update(_batch())
    assert all(torch.equal(before[name], t) for name, t in learner.policy.state_dict().items())


def test_policy_lag_is_counted_in_updates() -> None:
    learner = _learner()
    for number in range(3):
        metrics = learner.update(_batch(number))
    assert (metrics["lag/policy_version_mean"], metrics["lag/policy_version_max"]) == (2.0, 2.0)


def test_weights_move_between_training_modes() -> None:
    trained = _learner(credit="tbptt")
    trained.update(_batch())
    state = trained.state_dict()
    learner = _learner(credit="rtrl")
    learner.load_state_dict(state)
    assert all(torch.equal(t, _weights(trained)[name]) for name, t in learner.policy.state_dict().items())
    learner.update(_batch(1))
    back = _learner(credit="tbptt")
    back.load_state_dict(learner.state_dict())
    back.update(_batch(2))


def test_rtrl_without_carried_history_equals_tbptt() -> None:
    rtrl, tbptt = _learner(credit="rtrl"), _learner(credit="tbptt")
    rtrl.update(_batch())
    tbptt.update(_batch())
    for name, tensor in _weights(rtrl).items():
        torch.testing.assert_close(tensor, _weights(tbptt)[name], rtol=0, atol=1e-7)
    rtrl.update(_batch(1))
    tbptt.update(_batch(1))
    assert not torch.allclose(_weights(rtrl)["core.W_z"], _weights(tbptt)["core.W_z"], atol=1e-7)


def test_state_of_another_network_or_optimizer_is_refused_and_changes_nothing() -> None:
    state = _learner().state_dict()
    wider = _learner(policy=PolicyConfig(encoder="none", core="elstm", hidden_size=6))
    before = _weights(wider)
    with pytest.raises(ConfigError, match="another network"):
        wider.load_state_dict(state)
    with pytest.raises(ConfigError, match="saved run used 'rmsprop'"):
        _learner(optimizer="adam").load_state_dict(state)
    assert all(torch.equal(before[name], t) for name, t in _weights(wider).items())


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_moments_of_other_weights_are_refused(optimizer: str) -> None:
    """torch's fused Adam would write past the end of a smaller one."""
    learner = _learner(optimizer=optimizer)
    learner.update(_batch())
    state = learner.state_dict()["optimizer"]
    name = next(name for name in state["state"][0] if name != "step")
    state["state"][0][name] = torch.zeros(1)
    with pytest.raises(ValueError, match=rf"{name} of weight 0 is .* not of"):
        learner.optimizer.load_state_dict(state)
    del state["state"][0][name]
    with pytest.raises(ValueError, match=rf"weight 0 has .*, not .*'{name}'"):
        learner.optimizer.load_state_dict(state)


def test_unknown_device_is_refused() -> None:
    assert resolve_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="device = 'cuda:77'"):
        resolve_device("cuda:77")
    with pytest.raises(ConfigError, match="device = 'quantum'"):
        resolve_device("quantum")
