"""bfloat16 image encoders: as near float32 as their roundings allow, and nothing beside them is touched."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from actors.collect import check_device, make_collector
from actors.inference import LocalInference
from actors.policy import Policy, precision
from actors.policy.encoders import ImageEncoder
from actors.policy.precision import check_bfloat16, check_compute, set_encoder_dtype, set_tf32, told
from actors.weights import WeightSnapshot
from configs.presets import preset
from configs.schema import ComputeConfig, ConfigError, PolicyConfig
from envs.spec import EnvSpec
from tests.actors.snapshots import snapshot_of

SHAPE = (4, 52, 44)
PIXELS = EnvSpec(id="test", observation_shape=SHAPE, observation_dtype="uint8", num_actions=3)
VECTOR = EnvSpec(id="test", observation_shape=(3,), observation_dtype="float32", num_actions=3)
PARTS = EnvSpec(
    id="test",
    observation_shape={"image": SHAPE, "speed": (2,)},
    observation_dtype={"image": "uint8", "speed": "float32"},
    num_actions=3,
)
U = 2.0**-8
"""The largest relative error of rounding to bfloat16's 8 bits of significand."""
CPU = torch.device("cpu")
BFLOAT16 = ComputeConfig(encoder_dtype="bfloat16", actor_encoder_dtype="bfloat16")

needs_bfloat16 = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16", False), reason="this CPU has no AVX512-BF16"
)


def _policy(spec: EnvSpec = PIXELS, dtype: Any = "float32", **settings: Any) -> Policy:
    torch.manual_seed(0)
    policy = Policy(spec, PolicyConfig(encoder="auto", features=32, hidden_size=5, **settings))
    set_encoder_dtype(policy, dtype)
    return policy


def _pixels(*lead: int) -> torch.Tensor:
    return torch.randint(256, (*lead, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["shallow", "nature", "deep"])
def test_features_are_off_by_the_roundings_of_bfloat16_and_no_more(kind: str) -> None:
    """A layer rounds its input, its weights and its output, each by at most U of its size. Independent errors
    add up in squares: sqrt(3 L) U over L layers. Against float64 weights, so that float32 adds nothing."""
    torch.manual_seed(0)
    encoder = ImageEncoder(kind, SHAPE, features=64)
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in encoder.modules())
    pixels = _pixels(4)
    with torch.no_grad():
        plain = encoder(pixels)
        encoder.dtype = torch.bfloat16
        ours = encoder(pixels)
        encoder.dtype = None
        truth = encoder.double()(pixels)
    assert ours.dtype == torch.float32
    off = ((ours - truth).norm() / truth.norm()).item()
    assert off <= (3 * layers) ** 0.5 * U
    assert off > 100 * ((plain - truth).norm() / truth.norm()).item(), "nothing was rounded"


def test_pixels_lose_nothing_in_bfloat16() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(levels.to(torch.bfloat16).double(), levels.double())


@pytest.mark.parametrize("parts", [False, True])
def test_the_core_reads_float32_and_answers_in_it(parts: bool) -> None:
    policy = _policy(PARTS if parts else PIXELS, "bfloat16", normalise_observations=parts)
    lead = (3, 2)
    seen = {"image": _pixels(*lead), "speed": torch.randn(*lead, 2)} if parts else _pixels(*lead)
    reward, reset = torch.rand(*lead), torch.zeros(*lead, dtype=torch.bool)
    action = torch.zeros(*lead, dtype=torch.int64)
    x = policy.core_input(seen, reward, reset, action)
    assert x.dtype == torch.float32
    state, trace = policy.initial_state(2), policy.initial_trace(2)
    unroll = policy.unroll(seen, reward, reset, state, action, trace, "rtrl")
    answers = (unroll.logits, unroll.baseline, unroll.next_baseline, *unroll.trace)
    assert {tensor.dtype for tensor in answers} == {torch.float32}
    assert {tensor.dtype for tensor in policy.state_dict().values()} <= {torch.float32, torch.float64}


def test_weights_are_named_and_kept_as_without_it() -> None:
    plain, ours = _policy().state_dict(), _policy(dtype="bfloat16").state_dict()
    assert plain.keys() == ours.keys()
    assert all(torch.equal(plain[name], ours[name]) for name in plain)


def test_the_layout_follows_the_weights() -> None:
    encoder = ImageEncoder("shallow", SHAPE, features=8)
    seen: list[bool] = []
    encoder.convolutions.register_forward_hook(
        lambda _module, _inputs, y: seen.append(y.is_contiguous(memory_format=torch.channels_last))
    )
    last = encoder(_pixels(2))
    torch.testing.assert_close(encoder.to(memory_format=torch.contiguous_format)(_pixels(2)), last)
    assert seen == [True, False]


@pytest.mark.parametrize("fixed", [False, True])
def test_logits_that_are_told_are_those_that_acted(fixed: bool) -> None:
    policy, plain = _policy(dtype="bfloat16"), _policy()
    inference = LocalInference(policy, None, seed=1, greedy=True, fixed=fixed)
    group, flags = inference.open(4), torch.zeros(4, dtype=torch.bool)
    inference.submit(group, _pixels(4).numpy(), np.zeros(4, np.float32), flags.numpy())
    decision = inference.take(group)
    arguments = (
        _pixels(4),
        torch.zeros(4),
        flags,
        policy.initial_state(4),
        torch.zeros(4, dtype=torch.int64),
    )
    with torch.no_grad():
        assert np.array_equal(decision.logits, policy.step(*arguments).logits.numpy())
        assert not np.array_equal(decision.logits, plain.step(*arguments).logits.numpy())
    assert np.array_equal(decision.action, decision.logits.argmax(-1))


@needs_bfloat16
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_actors_act_as_their_own_setting_says(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as the learner's."""
    base = preset("atari_breakout_rtrl_cpu")
    other = "bfloat16" if dtype == "float32" else "float32"
    config = dataclasses.replace(
        base,
        env=dataclasses.replace(base.env, num_envs=2, num_threads=1),
        policy=dataclasses.replace(base.policy, encoder="shallow", features=16, hidden_size=8),
        compute=ComputeConfig(encoder_dtype=other, actor_encoder_dtype=dtype),
        **{"num_streams": 2, "num_actors": 1, "batch_size": 2, "unroll_length": 2, "runtime": "inline"},
    )
    acting: list[Policy] = []
    make = Policy.__init__
    monkeypatch.setattr(Policy, "__init__", lambda self, *a: (make(self, *a), acting.append(self))[0])

    class Source:
        def fetch(self, newer_than: int) -> WeightSnapshot | None:
            return snapshot_of(0, {name: w.numpy() for name, w in acting[0].state_dict().items()})

    collector = make_collector(config, Source(), 0, 1)
    try:
        rollout = collector.collect()
    finally:
        collector.close()
    told_dtypes = {encoder.dtype for encoder in precision.image_encoders(acting[0])}
    assert told_dtypes == {torch.bfloat16 if dtype == "bfloat16" else None}
    assert rollout.behaviour_logits.dtype == np.float32


def _without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})


def test_a_cpu_that_would_emulate_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_bfloat16(monkeypatch)
    with pytest.raises(
        ConfigError, match=r"compute\.encoder_dtype = 'bfloat16': this CPU has no AVX512-BF16"
    ):
        check_compute(ComputeConfig(encoder_dtype="bfloat16"), _policy(), CPU, "cpu")
    config = dataclasses.replace(preset("atari_breakout_rtrl_cpu"), compute=BFLOAT16, actor_device="cpu")
    with pytest.raises(ConfigError, match=r"compute\.actor_encoder_dtype = 'bfloat16': this CPU"):
        check_device(config)
    check_bfloat16("encoder_dtype", BFLOAT16, "cuda")
    check_compute(ComputeConfig(), _policy(), CPU, "cpu")


@needs_bfloat16
@pytest.mark.parametrize("field", ["encoder_dtype", "actor_encoder_dtype"])
def test_bfloat16_without_an_image_is_refused(field: str) -> None:
    compute = ComputeConfig(**{field: "bfloat16"})
    with pytest.raises(ConfigError, match=f"compute.{field} = 'bfloat16': there is no image"):
        check_compute(compute, _policy(VECTOR), CPU, "cpu")
    check_compute(compute, _policy(), CPU, "cpu")


@pytest.mark.parametrize("choice", ["convolutions", "all"])
def test_tf32_on_a_cpu_is_refused(choice: Any) -> None:
    compute = ComputeConfig(tf32=choice)
    with pytest.raises(ConfigError, match=f"compute.tf32 = '{choice}': a CPU has no TF32"):
        check_compute(compute, _policy(), CPU, "cpu")
    check_compute(compute, _policy(), CPU, "cuda")
    check_compute(ComputeConfig(tf32="off"), _policy(), CPU, "cpu")


@pytest.mark.parametrize(
    ("choice", "matmul", "convolution", "words"),
    [
        ("auto", "ieee", "tf32", "the encoder's convolutions in TF32"),
        ("convolutions", "ieee", "tf32", "the encoder's convolutions in TF32"),
        ("off", "ieee", "ieee", "none are formed in TF32"),
        ("all", "tf32", "tf32", "all in TF32, the core's and its traces' too"),
    ],
)
def test_tf32_is_set_for_a_gpu_and_told(choice: Any, matmul: str, convolution: str, words: str) -> None:
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    holders: list[Any] = [cuda, cudnn.conv, cudnn.rnn]
    before = [holder.fp32_precision for holder in holders]
    try:
        said = set_tf32(ComputeConfig(tf32=choice), "cuda")
        assert [holder.fp32_precision for holder in holders] == [matmul, convolution, matmul]
        assert words in said and f"compute.tf32 = {choice!r}" in said
        assert "a CPU has no TF32" in set_tf32(ComputeConfig(), "cpu")
        assert [holder.fp32_precision for holder in holders] == [matmul, convolution, matmul]
    finally:
        for holder, value in zip(holders, before, strict=True):
            holder.fp32_precision = value


def test_the_start_tells_whose_encoders_are_in_bfloat16() -> None:
    assert told(ComputeConfig(), CPU) == "float32 products: as float32, a CPU has no TF32"
    said = told(BFLOAT16, CPU)
    assert said.endswith("; image encoders of the learner and the actors in bfloat16")
