"""What a decision is made of: the newest weights' logits, a draw of one's own, and the version that chose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from actors.inference import Decision, LocalInference
from actors.policy import Policy
from actors.weights import WeightSnapshot
from configs.schema import PolicyConfig
from envs.spec import EnvSpec

E = 64
VECTOR = EnvSpec(id="v", observation_shape=(3,), observation_dtype="float32", num_actions=4)
CONTINUOUS = EnvSpec(
    id="c", observation_shape=(3,), observation_dtype="float32", num_actions=2, continuous_actions=True
)


class _Shelf:
    """A source that hands out whatever lies on it."""

    def __init__(self) -> None:
        self.snapshot: WeightSnapshot | None = None
        self.asked: list[int] = []

    def fetch(self, newer_than: int) -> WeightSnapshot | None:
        self.asked.append(newer_than)
        return self.snapshot if self.snapshot and self.snapshot.version > newer_than else None


def _policy(spec: EnvSpec, seed: int = 0) -> Policy:
    torch.manual_seed(seed)
    return Policy(spec, PolicyConfig(encoder="none", core="elstm", hidden_size=5))


def _inputs(inference: LocalInference) -> tuple[Any, ...]:
    rng = np.random.default_rng(2)
    state = tuple(rng.normal(size=part.shape).astype(np.float32) for part in inference.initial_state(E))
    observation = rng.normal(size=(E, 3)).astype(np.float32)
    reward, reset = rng.normal(size=E).astype(np.float32), np.arange(E) % 3 == 0
    return observation, reward, reset, state, inference.initial_action(E)


def _decide(spec: EnvSpec, seed: int, *, greedy: bool = False) -> Decision:
    inference = LocalInference(_policy(spec), None, seed=seed, greedy=greedy)
    return inference.step(*_inputs(inference))


@pytest.mark.parametrize("spec", [VECTOR, CONTINUOUS], ids=["discrete", "continuous"])
def test_each_seed_draws_actions_of_its_own_from_the_same_logits(spec: EnvSpec) -> None:
    one, again, other = _decide(spec, 1), _decide(spec, 1), _decide(spec, 2)
    np.testing.assert_array_equal(one.action, again.action)
    np.testing.assert_array_equal(one.logits, other.logits)
    assert (one.action != other.action).sum() > E // 4
    greedy = _decide(spec, 1, greedy=True).action
    np.testing.assert_array_equal(greedy, _decide(spec, 2, greedy=True).action)
    best = one.logits.argmax(-1) if spec is VECTOR else one.logits[:, :2]
    np.testing.assert_array_equal(greedy, best)


def test_the_wire_carries_the_unsquashed_action_and_the_env_takes_the_squashed_one() -> None:
    decision = _decide(CONTINUOUS, 1)
    assert np.abs(decision.action).max() > 1.0
    np.testing.assert_allclose(decision.env_action, np.tanh(decision.action), rtol=1e-6)
    discrete = _decide(VECTOR, 1)
    np.testing.assert_array_equal(discrete.env_action, discrete.action)


def test_a_decision_is_by_the_newest_weights_and_names_them() -> None:
    shelf, newest = _Shelf(), _policy(VECTOR, seed=9)
    arrays = {name: tensor.numpy() for name, tensor in newest.state_dict().items()}
    inference = LocalInference(_policy(VECTOR), shelf, seed=1)
    for version in (0, 3):
        shelf.snapshot = WeightSnapshot(version, arrays)
        inference.refresh()
        decision = inference.step(*_inputs(inference))
        assert decision.version == version
    inference.refresh()
    assert shelf.asked == [-1, 0, 3], "only newer weights are asked for"
    observation, reward, reset, state, action = map(_tensor, _inputs(inference))
    with torch.inference_mode():
        expected = newest.step(observation, reward, reset, state, action)
    np.testing.assert_array_equal(decision.logits, expected.logits.numpy())
    np.testing.assert_array_equal(decision.value, expected.baseline.numpy())
    np.testing.assert_array_equal(decision.state[0], expected.state[0].numpy())


def _tensor(array: Any) -> Any:
    return tuple(map(_tensor, array)) if isinstance(array, tuple) else torch.from_numpy(array)
