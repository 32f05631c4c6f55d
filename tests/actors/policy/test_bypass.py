"""The way past the encoder: what the core reads there, by loops, and that nothing trains it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from actors.policy import Policy
from actors.policy.bypass import Bypass, RandomView
from configs.schema import ConfigError, PolicyConfig
from envs.spec import EnvSpec
from learner.batcher import Batch
from learner.learner import Learner, LearnerError
from learner.ranks import Alone
from tests.learner.batches import SPEC, config, random_batch

IMAGE = EnvSpec(
    id="image", observation_shape=(2, 21, 30), observation_dtype="uint8", num_actions=3, levels=("",)
)
PARTS = dataclasses.replace(
    IMAGE,
    observation_shape={"view": (2, 21, 30), "speed": (3,), "words": (5,)},
    observation_dtype={"view": "uint8", "speed": "float32", "words": "int64"},
)


def _policy(spec: EnvSpec, **options: Any) -> Policy:
    torch.manual_seed(0)
    return Policy(spec, PolicyConfig(**{"features": 4, "hidden_size": 3, "bypass": True} | options))


def _bypass(spec: EnvSpec, **options: Any) -> Bypass:
    bypass = _policy(spec, **options).bypass
    assert bypass is not None
    return bypass


def _responses(weight: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """[16 * 4 * 4] of one image [2, 40, 37], by loops: 9 x 8 places at a stride of 4, averaged over 4 x 4
    parts, which overlap where 9 places are cut in 4."""
    seen = np.zeros((16, 9, 8))
    for row in range(9):
        for column in range(8):
            patch = pixels[:, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8] / 255.0
            seen[:, row, column] = np.maximum((weight * patch).sum(axis=(1, 2, 3)), 0)
    rows, columns = ((0, 3), (2, 5), (4, 7), (6, 9)), ((0, 2), (2, 4), (4, 6), (6, 8))
    parts = [[seen[:, r:s, c:d].mean(axis=(1, 2)) for c, d in columns] for r, s in rows]
    return np.array(parts).transpose(2, 0, 1).reshape(-1)


def test_an_image_is_seen_as_random_sums_of_deviations_from_what_filters_answer_on_average() -> None:
    torch.manual_seed(0)
    view = RandomView((2, 40, 37))
    weight = view.filters.double().numpy()
    np.testing.assert_allclose(weight.mean(axis=(1, 2, 3)), 0, atol=1e-7)
    np.testing.assert_allclose((weight**2).sum(axis=(1, 2, 3)), 1, rtol=1e-6)
    images = np.random.default_rng(0).integers(0, 256, (12, 2, 40, 37), dtype=np.uint8)
    seen = np.stack([_responses(weight, image) for image in images])
    view.moments.take(view.responses(torch.from_numpy(images)))
    deviations = (seen - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-6)
    expected = deviations @ view.sums.double().numpy()
    np.testing.assert_allclose(view(torch.from_numpy(images)).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_a_small_image_has_small_filters() -> None:
    assert RandomView((3, 7, 7))(torch.zeros(2, 3, 7, 7, dtype=torch.uint8)).shape == (2, 64)


def test_the_core_reads_vectors_as_they_are_and_the_heads_the_features() -> None:
    policy = _policy(SPEC, encoder="mlp", previous_reward=False)
    observation, nothing = torch.randn(1, *SPEC.observation_shape), torch.zeros(1)
    state, reset, action = policy.initial_state(1), nothing.bool(), nothing.long()
    assert torch.equal(policy.core_input(observation, nothing, reset, action), observation)
    step = policy.step(observation, nothing, reset, state, action)
    h, _ = policy.core.step(observation, state, reset)
    read = torch.cat([h, policy.encoder(observation)], dim=1)
    torch.testing.assert_close(step.logits, policy.policy_head(read))
    torch.testing.assert_close(step.baseline, policy.baseline_head(read)[:, 0])


def test_no_gradient_passes_from_the_core_to_the_encoder() -> None:
    policy = _policy(SPEC, encoder="mlp")
    rows = torch.zeros(2)
    x = policy.core_input(torch.randn(2, *SPEC.observation_shape), rows, rows.bool(), rows.long())
    assert not x.requires_grad


def test_of_several_parts_each_has_its_way_but_for_words() -> None:
    bypass = _bypass(PARTS, encoder="shallow")
    observation = {
        "view": torch.randint(256, (2, 2, 21, 30)).to(torch.uint8),
        "speed": torch.randn(2, 3),
        "words": torch.randint(1000, (2, 5)),
    }
    seen = bypass(observation)
    assert bypass.num_features == 64 + 3 == seen.shape[1]
    assert torch.equal(bypass(observation | {"words": torch.zeros(2, 5)}), seen)
    for name in ("view", "speed"):
        assert not torch.equal(bypass(observation | {name: torch.zeros_like(observation[name])}), seen)


def test_a_measured_vector_passes_normalised() -> None:
    policy = _policy(SPEC, encoder="mlp", normalise_observations=True, previous_reward=False)
    assert policy.normaliser is not None
    observation, rows = 5 + 2 * torch.randn(1000, *SPEC.observation_shape), torch.zeros(1000)
    policy.normaliser.take(observation.unsqueeze(1))
    x = policy.core_input(observation, rows, rows.bool(), rows.long())
    torch.testing.assert_close(x.mean(0), torch.zeros(x.shape[1]), rtol=0, atol=1e-3)
    torch.testing.assert_close(x.std(0), torch.ones(x.shape[1]), rtol=1e-2, atol=0)


PIXELS = dataclasses.replace(SPEC, observation_shape=(1, 20, 20), observation_dtype="uint8")


def _learner(**options: Any) -> Learner:
    torch.manual_seed(0)
    policy = PolicyConfig(encoder="shallow", features=5, hidden_size=5, bypass=True)
    settings = config(policy=policy, **options)
    return Learner(Policy(PIXELS, policy), settings, torch.device("cpu"))


def _pixels(seed: int) -> Batch:
    batch = random_batch(6, 3, seed=seed, dtype=torch.float32, piece=(0, 7, seed))
    images = torch.randint(256, (7, 3, 1, 20, 20), generator=torch.Generator().manual_seed(seed))
    return dataclasses.replace(batch, observation=images.to(torch.uint8))


def _weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.policy.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_learning_moves_all_but_the_filters_and_counts_what_it_learned_from(optimizer: str) -> None:
    learner = _learner(optimizer=optimizer)
    before = _weights(learner)
    learner.update(_pixels(0))
    stayed = {name for name, tensor in _weights(learner).items() if torch.equal(tensor, before[name])}
    assert stayed == {"bypass.views.0.filters", "bypass.views.0.sums"}
    assert learner.policy.bypass is not None
    assert learner.policy.bypass.moments()[0].count == 6 * 3, "x_T is the next unroll's"


def test_a_batch_that_is_dropped_leaves_no_statistics() -> None:
    learner = _learner()
    before = _weights(learner)
    batch = _pixels(0)
    batch.reward[2, 1] = float("nan")
    with pytest.raises(LearnerError):
        learner.update(batch)
    assert all(torch.equal(tensor, before[name]) for name, tensor in _weights(learner).items())


class _Recording(Alone):
    """One of two ranks, which notes what it sums with the other."""

    of = 2

    def __init__(self) -> None:
        self.sums: list[list[torch.Size]] = []

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        self.sums.append([tensor.shape for tensor in tensors])


def test_a_rank_without_a_batch_takes_part_in_the_same_sums_in_the_same_order() -> None:
    spec = dataclasses.replace(
        SPEC,
        observation_shape={"view": (1, 20, 20), "speed": (3,)},
        observation_dtype={"view": "uint8", "speed": "float32"},
    )
    options = {"features": 5, "hidden_size": 5, "bypass": True, "normalise_observations": True}
    policy, ranks = PolicyConfig(encoder="shallow", **options), _Recording()
    learner = Learner(Policy(spec, policy), config(policy=policy), torch.device("cpu"), ranks)
    batch = _pixels(0)
    observation = {"view": batch.observation, "speed": torch.randn(7, 3, 3)}
    learner.update(dataclasses.replace(batch, observation=observation))
    learned, ranks.sums = ranks.sums, []
    learner.follow(18)
    assert len(learned) == 5, (
        "gradients, and twice each the moments of what is seen past the encoder and of speeds"
    )
    assert ranks.sums == learned


def test_words_alone_have_no_way_past_their_encoder() -> None:
    spec = dataclasses.replace(SPEC, observation_shape=(5,), observation_dtype="int64")
    with pytest.raises(ConfigError, match=r"policy.bypass.* shows words alone"):
        _policy(spec, encoder="auto")
