"""Running normalisation of observations: statistics against NumPy, and what is left alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from actors.inference import LocalInference
from actors.policy import Policy
from actors.policy.normalise import RunningMoments
from configs.env import EnvConfig
from configs.error import ConfigError
from configs.schema import PolicyConfig
from envs.make import env_spec
from envs.spec import EnvSpec
from envs.suites.gym.spaces import ObservationReader
from learner.publish import LocalPublisher

VECTOR = EnvSpec(id="v", observation_shape=(3,), observation_dtype="float32", num_actions=2)
PARTS = EnvSpec(
    id="p",
    observation_shape={"arm.x": (2, 2), "eye": (3, 8, 8), "words": (4,), "vector": (5,)},
    observation_dtype={"arm.x": "float32", "eye": "uint8", "words": "int64", "vector": "float32"},
    coded=(("vector", 1, 3),),
    num_actions=2,
)


def _policy(spec: EnvSpec, **options: Any) -> Policy:
    torch.manual_seed(0)
    settings = {"encoder": "none", "core": "none", "normalise_observations": True} | options
    return Policy(spec, PolicyConfig(**settings))


def test_moments_are_those_of_all_that_was_seen() -> None:
    """A mean of a million deviations, batches of all sizes, and rows that do not count, NaN among them."""
    random = np.random.default_rng(1)
    ours, seen = RunningMoments(3), []
    for rows in (1, 7, 1, 300, 2):
        x = random.normal((1e6, 0.0, -3.0), (1.0, 5.0, 0.0), (rows, 3))
        counts = random.random(rows) < 0.7
        seen.append(x[counts])
        x[~counts] = np.nan
        ours.take(torch.from_numpy(x), torch.from_numpy(counts))
        if (together := np.concatenate(seen)).size:
            np.testing.assert_allclose(ours.mean, together.mean(0), rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(ours.variance, together.var(0), rtol=1e-9, atol=1e-12)
    assert ours.count == len(np.concatenate(seen))
    before = copy.deepcopy(ours.state_dict())
    ours.take(torch.full((4, 3), torch.nan, dtype=torch.float64), torch.zeros(4, dtype=torch.bool))
    assert all(torch.equal(before[name], tensor) for name, tensor in ours.state_dict().items())


def test_counting_goes_on_past_what_float32_can_count() -> None:
    ours = RunningMoments(1)
    ours.count.fill_(2.0**24)
    ours.take(torch.zeros(1, 1))
    assert ours.count == 2**24 + 1


def _inputs(policy: Policy, observation: Any, steps: tuple[int, ...]) -> torch.Tensor:
    reward = torch.zeros(steps)
    return policy.core_input(observation, reward, reward > 0, torch.zeros(steps, dtype=torch.int64))


def test_a_vector_is_read_in_deviations_from_its_mean_and_no_further_than_ten() -> None:
    policy = _policy(VECTOR, previous_reward=False)
    normaliser = policy.normaliser
    assert normaliser is not None
    g = torch.Generator().manual_seed(0)
    seen = torch.randn(50, 4, 3, generator=g) * torch.tensor([2.0, 0.1, 30.0]) + torch.tensor(
        [5.0, 0.0, -9.0]
    )
    assert torch.equal(_inputs(policy, seen, (50, 4)), seen.clamp(-10, 10)), "nothing was seen yet"
    clipped = normaliser.take(seen)
    assert clipped == (seen.abs() >= 10).double().mean()
    flat = seen.numpy().reshape(-1, 3).astype(np.float64)
    expected = (seen.numpy() - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-8)
    np.testing.assert_allclose(_inputs(policy, seen, (50, 4)), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected).max() < 10
    far = torch.tensor([[1e6, -1e6, -9.0]])
    read = _inputs(policy, far, (1,))
    assert read[0, 0] == 10 and read[0, 1] == -10 and read[0, 2].abs() < 1
    assert normaliser.take(far.unsqueeze(0)) == pytest.approx(2 / 3)


def test_a_constant_number_reads_as_zero_and_stays_finite() -> None:
    policy = _policy(VECTOR, previous_reward=False)
    assert policy.normaliser is not None
    policy.normaliser.take(torch.full((6, 2, 3), 7.0))
    assert _inputs(policy, torch.full((1, 3), 7.0), (1,)).abs().max() == 0
    assert _inputs(policy, torch.full((1, 3), 7.1), (1,)).max() == 10


def test_pictures_words_and_codes_stay_as_they_are() -> None:
    policy = _policy(PARTS, encoder="deep", features=4)
    normaliser = policy.normaliser
    assert normaliser is not None
    g = torch.Generator().manual_seed(0)
    seen = {
        "arm.x": 5.0 + torch.randn(6, 3, 2, 2, generator=g),
        "eye": torch.randint(256, (6, 3, 3, 8, 8), generator=g, dtype=torch.uint8),
        "words": torch.randint(9, (6, 3, 4), generator=g),
        "vector": 5.0 + torch.randn(6, 3, 5, generator=g),
    }
    normaliser.take(seen)
    flat = {name: part.flatten(0, 1) for name, part in seen.items()}
    read = normaliser(flat)
    assert read["eye"] is flat["eye"] and read["words"] is flat["words"]
    assert torch.equal(read["vector"][:, 1:3], flat["vector"][:, 1:3])
    measured = torch.cat([read["arm.x"].flatten(1), read["vector"][:, [0, 3, 4]]], dim=1)
    torch.testing.assert_close(measured.mean(0), torch.zeros(7), rtol=0, atol=1e-5)
    torch.testing.assert_close(measured.std(0, correction=0), torch.ones(7), rtol=0, atol=1e-5)
    assert _inputs(policy, seen, (6, 3)).shape[:2] == (6, 3)


@pytest.mark.parametrize(
    "spec",
    [
        EnvSpec(id="eye", observation_shape=(3, 8, 8), observation_dtype="uint8", num_actions=2),
        EnvSpec(
            id="bits", observation_shape=(4,), observation_dtype="float32", coded=(("", 0, 4),), num_actions=2
        ),
    ],
    ids=["picture", "bits"],
)
def test_where_nothing_is_measured_the_option_is_refused(spec: EnvSpec) -> None:
    with pytest.raises(ConfigError, match=r"policy\.normalise_observations = True: cannot take effect"):
        _policy(spec, encoder="auto")


def test_gymnasium_spaces_say_what_is_coded() -> None:
    """Of a joined vector too: a Discrete's one-hot, bits and bytes, beside a box of floats."""
    assert env_spec(EnvConfig(id="CartPole-v1", num_envs=1)).coded == ()
    assert env_spec(EnvConfig(id="FrozenLake-v1", num_envs=1)).coded == (("", 0, 16),)
    box, bits, choice = spaces.Box(-1.0, 1.0, (2,)), spaces.MultiBinary(4), spaces.Discrete(3)
    rest = {"bytes": spaces.Box(0, 255, (2,), np.uint8), "choice": choice}
    vector = ObservationReader("x", spaces.Dict(box=box, **rest, more=bits))
    assert vector.shape == (2 + 2 + 3 + 4,)
    assert vector.coded == (("", 2, 4), ("", 4, 7), ("", 7, 11))
    beside = ObservationReader("x", spaces.Dict(eye=spaces.Box(0, 255, (8, 8, 3), np.uint8), choice=choice))
    assert beside.coded == (("vector", 0, 3),)
    planes = 7 * 7 * 20  # MiniGrid's cells count as measured, its compass does not
    assert env_spec(EnvConfig(id="minigrid/Empty-5x5", num_envs=1)).coded == (("", planes, planes + 4),)
    assert env_spec(EnvConfig(id="minigrid/Fetch-5x5-N2", num_envs=1)).coded == (
        ("vector", planes, planes + 4),
    )


def test_no_optimiser_sees_the_statistics_and_they_travel_with_the_weights() -> None:
    policy = _policy(VECTOR)
    assert policy.normaliser is not None
    statistics = {name for name in policy.state_dict() if "normalise" in name}
    assert len(statistics) == 3 and not statistics & {name for name, _ in policy.named_parameters()}
    policy.normaliser.take(torch.randn(9, 2, 3) * 4.0 + 1.0)
    publisher = LocalPublisher()
    publisher.publish(policy, 1)
    acting = Policy(VECTOR, PolicyConfig(encoder="none", core="none", normalise_observations=True))
    LocalInference(acting, publisher.source, seed=0).refresh()
    assert all(torch.equal(acting.state_dict()[name], policy.state_dict()[name]) for name in statistics)
    kept = copy.deepcopy(policy.state_dict())
    _inputs(policy, torch.randn(4, 3), (4,))
    assert all(torch.equal(kept[name], tensor) for name, tensor in policy.state_dict().items()), (
        "acting reads"
    )
