"""One set of weights, two ways to run it: acting and learning agree."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from actors.policy import Policy
from actors.policy.encoders import ImageEncoder, InstructionEncoder
from configs.schema import AtariConfig, ConfigError, EnvConfig, PolicyConfig
from envs.make import env_spec
from envs.spec import EnvSpec

T, B, A = 6, 3, 4
VECTOR = EnvSpec(id="vector", observation_shape=(5,), observation_dtype="float32", num_actions=A)
IMAGE = EnvSpec(id="image", observation_shape=(4, 84, 84), observation_dtype="uint8", num_actions=A)
BYTES = EnvSpec(id="ram", observation_shape=(6,), observation_dtype="uint8", num_actions=A)
NO_IMAGE = EnvSpec(
    id="none",
    observation_shape={"a": (2,), "words": (4,)},
    observation_dtype={"a": "float32", "words": "int64"},
    num_actions=A,
)
SMALL = EnvSpec(id="small", observation_shape=(3, 16, 20), observation_dtype="uint8", num_actions=A)


def _policy(spec: EnvSpec, **changes: Any) -> Policy:
    torch.manual_seed(0)
    return Policy(spec, dataclasses.replace(PolicyConfig(features=16, hidden_size=7), **changes))


def _inputs(spec: EnvSpec) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    shape = (T + 1, B, *spec.observation_shape)
    if spec.observation_dtype == "uint8":
        observation = torch.randint(256, shape, generator=g).to(torch.uint8)
    else:
        observation = torch.randn(shape, generator=g)
    reset = torch.rand(T + 1, B, generator=g) < 0.3
    reset[0, 0] = True
    return (
        observation,
        torch.randn(T + 1, B, generator=g) * 2,
        reset,
        torch.randint(A, (T + 1, B), generator=g),
    )


CASES = [
    *((VECTOR, encoder, core) for encoder in ("none", "mlp") for core in ("none", "lstm", "gru", "elstm")),
    *((IMAGE, encoder, "elstm") for encoder in ("shallow", "nature", "deep")),
    (SMALL, "deep", "lstm"),
]


@pytest.mark.parametrize("previous", [False, True])
@pytest.mark.parametrize(("spec", "encoder", "core"), CASES)
def test_stepping_equals_unrolling(spec: EnvSpec, encoder: str, core: str, previous: bool) -> None:
    options = {"previous_action": previous, "previous_reward": not previous}
    policy = _policy(spec, encoder=encoder, core=core, **options)
    observation, reward, reset, action = _inputs(spec)
    state = tuple(torch.rand_like(tensor) for tensor in policy.initial_state(B))
    unroll = policy.unroll(observation, reward, reset, state, action)
    baselines = []
    for t in range(T + 1):
        step = policy.step(observation[t], reward[t], reset[t], state, action[t])
        state = step.state
        baselines.append(step.baseline)
        if t < T:
            torch.testing.assert_close(step.logits, unroll.logits[t], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.stack(baselines[:-1]), unroll.baseline, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.stack(baselines[1:]), unroll.next_baseline, rtol=1e-4, atol=1e-5)
    assert not unroll.next_baseline.requires_grad and unroll.baseline.requires_grad


@pytest.mark.parametrize("core", ["lstm", "gru", "elstm"])
def test_a_reset_forgets_the_state_and_the_previous_action(core: str) -> None:
    policy = _policy(VECTOR, core=core, previous_action=True)
    observation, reward, _, action = _inputs(VECTOR)
    state = tuple(torch.rand_like(tensor) for tensor in policy.initial_state(B))
    reset = torch.tensor([True, False, True])
    first = policy.step(observation[0], reward[0], reset, state, action[0])
    other = policy.step(observation[0], reward[0], reset, tuple(t + 1 for t in state), (action[0] + 1) % A)
    same = (first.logits == other.logits).all(dim=-1)
    assert same.tolist() == [True, False, True]


def test_the_core_sees_the_reward_clipped() -> None:
    policy = _policy(VECTOR)
    observation, _, reset, action = _inputs(VECTOR)
    state = policy.initial_state(B)

    def logits(value: float) -> torch.Tensor:
        return policy.step(observation[0], torch.full((B,), value), reset[0], state, action[0]).logits

    assert torch.equal(logits(1.0), logits(50.0)) and not torch.equal(logits(1.0), logits(0.5))


def test_without_the_previous_reward_it_makes_no_difference() -> None:
    policy, fed = _policy(VECTOR, previous_reward=False), _policy(VECTOR)
    assert policy.core.input_size == fed.core.input_size - 1
    observation, reward, reset, action = _inputs(VECTOR)
    state = policy.initial_state(B)
    one, other = (policy.step(observation[0], r, reset[0], state, action[0]) for r in (reward[0], reward[1]))
    assert torch.equal(one.logits, other.logits) and torch.equal(one.baseline, other.baseline)


def test_pixels_are_scaled_by_255() -> None:
    policy = _policy(SMALL, encoder="deep", core="none")
    assert isinstance(policy.encoder, ImageEncoder)
    convolution = policy.encoder.convolutions[0]
    assert isinstance(convolution, torch.nn.Conv2d)
    pixels = _inputs(SMALL)[0][0]
    plain = torch.nn.functional.conv2d(pixels / 255.0, convolution.weight, convolution.bias, padding=1)
    torch.testing.assert_close(convolution(pixels), plain)


def test_only_the_elstm_has_a_trace() -> None:
    assert _policy(VECTOR).initial_trace(B) is not None
    assert _policy(VECTOR, core="lstm").initial_trace(B) is None
    assert _policy(VECTOR, core="none").initial_trace(B) is None


@pytest.mark.parametrize(
    ("spec", "encoder", "words"),
    [
        (VECTOR, "nature", "needs uint8 images"),
        (IMAGE, "mlp", r"reads vectors, .* pixels \[4, 84, 84\]; use policy.encoder 'auto', or 'deep'"),
        (IMAGE, "none", "reads vectors"),
        (SMALL, "nature", "too small for its strides; choose policy.encoder 'deep', which fits any size"),
        (BYTES, "deep", r"needs uint8 images .* gives uint8\[6\]; use policy.encoder 'mlp' or 'auto'"),
        (NO_IMAGE, "deep", "needs an image, but there is none among the parts of none: a, words"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(spec: EnvSpec, encoder: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _policy(spec, encoder=encoder)


PARTS = EnvSpec(
    id="parts",
    observation_shape={"screen": (3, 16, 20), "speed": (2, 2), "words": (6,), "held": (3,)},
    observation_dtype={"screen": "uint8", "speed": "float32", "words": "int64", "held": "float32"},
    num_actions=A,
)


def _parts(batch: int) -> dict[str, torch.Tensor]:
    return {
        "screen": torch.randint(256, (batch, 3, 16, 20), dtype=torch.uint8),
        "speed": torch.randn(batch, 2, 2),
        "words": torch.tensor([5, 9, 1, 0, 0, 0]).repeat(batch, 1),
        "held": torch.randn(batch, 3),
    }


def test_parts_are_encoded_each_in_its_own_way_and_all_of_them_count() -> None:
    policy = _policy(PARTS, encoder="deep", features=8)
    assert policy.core.input_size == 8 + 64 + 7 + 1
    observation = _parts(B)
    zeros = torch.zeros(B)
    x = policy.core_input(observation, zeros, zeros.bool(), zeros.long())
    torch.testing.assert_close(x[:, 72:76], observation["speed"].flatten(1), rtol=0, atol=0)
    torch.testing.assert_close(x[:, 76:79], observation["held"], rtol=0, atol=0)
    for name, part in observation.items():
        other = policy.core_input(observation | {name: part + 1}, zeros, zeros.bool(), zeros.long())
        assert not torch.equal(other, x), name


def test_vectors_without_an_image_go_through_the_encoder() -> None:
    shapes = {"a": (2,), "b": (3,)}
    spec = EnvSpec(
        id="v", observation_shape=shapes, observation_dtype=dict.fromkeys(shapes, "float32"), num_actions=A
    )
    policy = _policy(spec, encoder="mlp", features=8)
    assert policy.core.input_size == 8 + 1
    with pytest.raises(ConfigError, match=r"parts \(screen\) gives pixels"):
        _policy(PARTS, encoder="mlp")


def test_an_instruction_ends_at_its_last_word() -> None:
    encoder = InstructionEncoder()
    short = torch.tensor([[5, 9, 0, 0], [0, 0, 0, 0]])
    padded = torch.tensor([[5, 9, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(encoder(short), encoder(padded))
    assert not encoder(short)[1].any(), "no word, no features"
    assert not torch.equal(encoder(torch.tensor([[9, 5]])), encoder(short)[:1]), "the order counts"


def test_continuous_actions_take_two_parameters_each_and_are_fed_back_squashed() -> None:
    spec = EnvSpec(
        id="c", observation_shape=(5,), observation_dtype="float32", num_actions=2, continuous_actions=True
    )
    policy = _policy(spec, encoder="none", previous_action=True)
    action, zeros = torch.randn(B, 2), torch.zeros(B)
    observation, reset = torch.randn(B, 5), torch.tensor([False, True, False])
    step = policy.step(observation, zeros, reset, policy.initial_state(B), action)
    assert step.logits.shape == (B, 4)
    x = policy.core_input(observation, zeros, reset, action)
    torch.testing.assert_close(x[:, 6:], action.tanh() * ~reset[:, None])


@pytest.mark.parametrize("encoder", ["shallow", "nature", "deep"])
def test_an_encoder_fits_atari_however_it_is_shown(encoder: str) -> None:
    def spec(**options: Any) -> EnvSpec:
        return env_spec(EnvConfig(id="ALE/Pong-v5", atari=AtariConfig(**options)))

    for options in ({"frame_stack": 1}, {"colour": True, "size": 64}, {"frame_stack": 2, "size": 97}):
        shown = spec(**options)
        policy = _policy(shown, encoder=encoder, core="none")
        image = torch.zeros(1, *shown.observation_shape, dtype=torch.uint8)
        step = policy.step(image, torch.zeros(1), torch.ones(1, dtype=torch.bool), (), torch.zeros(1).long())
        assert step.logits.shape == (1, 6)
    if encoder != "deep":
        with pytest.raises(ConfigError, match="too small for its strides"):
            _policy(spec(size=11), encoder=encoder)


def test_bytes_are_fractions_of_255() -> None:
    for encoder in ("none", "mlp", "auto"):
        policy = _policy(BYTES, encoder=encoder)
        floats = _policy(dataclasses.replace(BYTES, observation_dtype="float32"), encoder=encoder)
        observation = torch.randint(256, (B, 6), dtype=torch.uint8)
        torch.testing.assert_close(policy.encoder(observation), floats.encoder(observation / 255.0))


def test_a_text_alone_is_read() -> None:
    text = EnvSpec(id="text", observation_shape=(6,), observation_dtype="int64", num_actions=A)
    for encoder in ("none", "mlp", "auto"):
        assert isinstance(_policy(text, encoder=encoder).encoder, InstructionEncoder)


@pytest.mark.parametrize(
    ("side", "kind"), [(84, "nature"), (36, "nature"), (35, "shallow"), (20, "shallow"), (5, "deep")]
)
def test_auto_is_what_fits_an_image_of_that_size(side: int, kind: str) -> None:
    spec = EnvSpec(id="i", observation_shape=(3, side, side + 9), observation_dtype="uint8", num_actions=A)
    chosen, named = _policy(spec, encoder="auto").encoder, _policy(spec, encoder=kind).encoder
    assert str(chosen) == str(named)


def test_auto_reads_every_part() -> None:
    assert _policy(PARTS, encoder="auto", features=8).core.input_size == 8 + 64 + 7 + 1
    assert _policy(NO_IMAGE, encoder="auto", features=8).core.input_size == 64 + 8 + 1


def test_parts_may_have_any_names() -> None:
    names = ["cam.left", "keys", "cam=dleft", "=d", "=", "type", "", "forward"]
    spec = EnvSpec(
        id="names",
        observation_shape=dict.fromkeys(names, (6,)),
        observation_dtype=dict.fromkeys(names, "int64"),
        num_actions=A,
    )
    policy = _policy(spec, encoder="none")
    observation = {name: torch.randint(1, 99, (B, 6)) for name in names}
    zeros = torch.zeros(B)
    x = policy.core_input(observation, zeros, zeros.bool(), zeros.long())
    for place, name in enumerate(names):
        other = policy.core_input(
            observation | {name: observation[name] + 1}, zeros, zeros.bool(), zeros.long()
        )
        changed = (other != x).any(0).nonzero().flatten() // InstructionEncoder.FEATURES
        assert changed.unique().tolist() == [place], name


def test_several_choices_are_fed_back_side_by_side() -> None:
    spec = EnvSpec(
        id="m", observation_shape=(5,), observation_dtype="float32", num_actions=2, action_sizes=(3, 2)
    )
    policy = _policy(spec, encoder="none", previous_action=True)
    action, zeros = torch.tensor([[2, 1], [0, 0], [1, 1]]), torch.zeros(B)
    reset = torch.tensor([False, True, False])
    observation = torch.randn(B, 5)
    assert policy.step(observation, zeros, reset, policy.initial_state(B), action).logits.shape == (B, 5)
    x = policy.core_input(observation, zeros, reset, action)
    assert x[:, 6:].tolist() == [[0, 0, 1, 0, 1], [0] * 5, [0, 1, 0, 0, 1]]
