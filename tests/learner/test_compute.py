"""What `compute.*` changes of a learner: the encoder's roundings, and nothing that is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.learner_step_case import Rollouts, Size, make_learner
from configs.schema import ComputeConfig, ConfigError
from learner.learner import Learner
from learner.records.state import split_state
from tests.actors.policy.test_precision import U, needs_bfloat16

SIZE = Size(T=5, B=3, N=16, encoder="nature", frame=44)
CPU = torch.device("cpu")
BFLOAT16 = ComputeConfig(encoder_dtype="bfloat16")


def _after(compute: ComputeConfig, updates: int = 1, size: Size = SIZE) -> Learner:
    rollouts, learner = Rollouts(size, CPU), make_learner(size, "rtrl", CPU, compute=compute)
    for _ in range(updates):
        learner.update(rollouts.next_batch())
    return learner


def _gradients(learner: Learner) -> dict[str, Tensor]:
    return {name: p.grad for name, p in learner.policy.named_parameters() if p.grad is not None}


@needs_bfloat16
def test_every_gradient_is_float32s_but_for_roundings() -> None:
    """U a rounding, of three a layer, on the way up and down: independent errors add up in squares. A ReLU
    near 0 may also turn: of a share U of the units a layer, which is sqrt(U) of a gradient's norm."""
    plain, ours = _gradients(_after(ComputeConfig())), _gradients(_after(BFLOAT16))
    encoder = make_learner(SIZE, "rtrl", CPU).policy.encoder
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in encoder.modules())
    bound = (6 * layers) ** 0.5 * U + (layers * U) ** 0.5
    assert ours.keys() == plain.keys()
    moved = 0
    for name, truth in plain.items():
        assert ours[name].dtype == torch.float32 and truth.norm() > 0
        off = ((ours[name] - truth).norm() / truth.norm()).item()
        assert off <= bound, (name, off)
        moved += off > 0
    assert moved == len(plain), "nothing was rounded"


@needs_bfloat16
def test_traces_moments_and_weights_are_float32_and_named_alike() -> None:
    kept = [split_state(_after(compute, 2).state_dict(), "") for compute in (ComputeConfig(), BFLOAT16)]
    (plain, rest), (ours, other_rest) = kept
    assert ours.keys() == plain.keys() and rest == other_rest
    assert {name: (t.dtype, t.shape) for name, t in ours.items()} == {
        name: (t.dtype, t.shape) for name, t in plain.items()
    }
    assert torch.bfloat16 not in {tensor.dtype for tensor in ours.values()}


@needs_bfloat16
@pytest.mark.parametrize("saved_by", ["bfloat16", "float32"])
def test_a_checkpoint_goes_on_under_the_other_dtype(saved_by: Any) -> None:
    """As that one would have gone on: the state that was loaded is all that it knows."""
    saved = _after(ComputeConfig(encoder_dtype=saved_by), 2)
    other = ComputeConfig(encoder_dtype="float32" if saved_by == "bfloat16" else "bfloat16")
    loaded, batch = make_learner(SIZE, "rtrl", CPU, seed=9, compute=other), _batch(3)
    loaded.load_state_dict(saved.state_dict())
    loaded.load_traces(saved.state_dict())
    first, second = (split_state(learner.state_dict(), "")[0] for learner in (saved, loaded))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert loaded.update(batch)["rtrl/trace_breaks"] == 0


def _batch(number: int) -> Any:
    rollouts = Rollouts(SIZE, CPU)
    for _ in range(number - 1):
        rollouts.next_batch()
    return rollouts.next_batch()


def test_a_compiled_encoder_learns_as_one_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a compiler that keeps the arithmetic: what is traced, is the same to the bit. Names stay."""
    compile_ = torch.compile
    asked: list[dict[str, Any]] = []

    def traced(model: Any = None, **options: Any) -> Any:
        asked.append(options)
        return compile_(model, **options | {"backend": "aot_eager"})

    monkeypatch.setattr(torch, "compile", traced)
    plain = _after(ComputeConfig(), 2).policy.state_dict()
    ours = _after(ComputeConfig(compile_encoder=True), 2).policy.state_dict()
    assert asked == [{"fullgraph": True}]
    assert ours.keys() == plain.keys()
    assert all(torch.equal(ours[name], plain[name]) for name in plain)


def test_a_compiler_that_does_not_work_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.policy.precision import check_compute

    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("no C++ compiler was found")

    policy = make_learner(SIZE, "rtrl", CPU).policy
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(
        ConfigError, match=r"compute\.compile_encoder = True: .* \(no C\+\+ compiler was found\)"
    ):
        check_compute(ComputeConfig(compile_encoder=True), policy, CPU, "cpu")
    check_compute(ComputeConfig(), policy, CPU, "cpu")
