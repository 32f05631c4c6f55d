"""What a decision is made of: the newest weights' logits, a draw of one's own, and the version that chose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from actors.inference import Decision, DivergedError, LocalInference
from actors.policy import Policy
from actors.weights import WeightSnapshot
from configs.schema import PolicyConfig
from envs.spec import EnvSpec
from tests.actors.snapshots import snapshot_of

E = 64
VECTOR = EnvSpec(id="v", observation_shape=(3,), observation_dtype="float32", num_actions=4)
CONTINUOUS = EnvSpec(
    id="c", observation_shape=(3,), observation_dtype="float32", num_actions=2, continuous_actions=True
)
PARTS = EnvSpec(
    id="p",
    observation_shape={"one": (3,), "two": (2,)},
    observation_dtype={"one": "float32", "two": "float32"},
    num_actions=4,
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


def _inputs(step: int = 0) -> tuple[Any, ...]:
    rng = np.random.default_rng(step)
    observation = rng.normal(size=(E, 3)).astype(np.float32)
    reward, reset = rng.normal(size=E).astype(np.float32), np.arange(E) % 3 == 0
    return observation, reward, reset


def _decide(inference: LocalInference, step: int = 0, group: int = 0) -> Decision:
    inference.submit(group, *_inputs(step))
    return inference.take(group)


def _first(spec: EnvSpec, seed: int, *, greedy: bool = False) -> Decision:
    inference = LocalInference(_policy(spec), None, seed=seed, greedy=greedy)
    assert inference.open(E) == 0
    return _decide(inference)


@pytest.mark.parametrize("spec", [VECTOR, CONTINUOUS], ids=["discrete", "continuous"])
def test_each_seed_draws_actions_of_its_own_from_the_same_logits(spec: EnvSpec) -> None:
    one, again, other = _first(spec, 1), _first(spec, 1), _first(spec, 2)
    np.testing.assert_array_equal(one.action, again.action)
    np.testing.assert_array_equal(one.logits, other.logits)
    assert (one.action != other.action).sum() > E // 4
    greedy = _first(spec, 1, greedy=True).action
    np.testing.assert_array_equal(greedy, _first(spec, 2, greedy=True).action)
    best = one.logits.argmax(-1) if spec is VECTOR else one.logits[:, :2]
    np.testing.assert_array_equal(greedy, best)


def test_the_wire_carries_the_unsquashed_action_and_the_env_takes_the_squashed_one() -> None:
    decision = _first(CONTINUOUS, 1)
    assert np.abs(decision.action).max() > 1.0
    np.testing.assert_allclose(decision.env_action, np.tanh(decision.action), rtol=1e-6)
    discrete = _first(VECTOR, 1)
    np.testing.assert_array_equal(discrete.env_action, discrete.action)


def test_a_decision_is_by_the_newest_weights_and_names_them() -> None:
    shelf, newest = _Shelf(), _policy(VECTOR, seed=9)
    arrays = {name: tensor.numpy() for name, tensor in newest.state_dict().items()}
    inference = LocalInference(_policy(VECTOR), shelf, seed=1)
    inference.open(E)
    for version in (0, 3):
        shelf.snapshot = snapshot_of(version, arrays)
        inference.refresh()
        state, action = (torch.from_numpy(a) for a in (*inference.state(0), inference.previous_action(0)))
        decision = _decide(inference)
        assert decision.version == version
    inference.refresh()
    assert shelf.asked == [-1, 0, 3], "only newer weights are asked for"
    observation, reward, reset = map(torch.from_numpy, _inputs())
    with torch.inference_mode():
        expected = newest.step(observation, reward, reset, (state,), action)
    np.testing.assert_array_equal(decision.logits, expected.logits.numpy())
    np.testing.assert_array_equal(decision.value, expected.baseline.numpy())
    np.testing.assert_array_equal(inference.state(0)[0], expected.state[0].numpy())
    np.testing.assert_array_equal(inference.previous_action(0), decision.action)


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("spec", [VECTOR, CONTINUOUS], ids=["discrete", "continuous"])
def test_a_policy_that_has_diverged_draws_nothing(spec: EnvSpec, greedy: bool) -> None:
    policy = _policy(spec)
    with torch.no_grad():
        next(policy.core.parameters())[0] = torch.nan
    inference = LocalInference(policy, None, seed=0, greedy=greedy)
    with pytest.raises(DivergedError, match="by weights of version 0: training has diverged"):
        inference.submit(inference.open(E), *_inputs())


@pytest.mark.parametrize("spec", [VECTOR, CONTINUOUS, PARTS], ids=["discrete", "continuous", "parts"])
def test_copied_inputs_and_those_read_in_place_give_the_same_decisions(spec: EnvSpec) -> None:
    """What a GPU is given goes through places that stay; here they are in the same memory."""

    def decided(fixed: bool) -> list[Decision]:
        inference = LocalInference(_policy(spec), None, seed=3, fixed=fixed)
        inference.open(E)
        decisions = []
        for step in range(6):
            observation, reward, reset = _inputs(step)
            given = {"one": observation, "two": observation[:, :2]} if spec is PARTS else observation
            inference.submit(0, given, reward, reset)
            observation[:] = np.nan  # it was read, or copied
            decisions.append(Decision(*(np.array(part) for part in inference.take(0))))
        return decisions

    for one, other in zip(decided(False), decided(True), strict=True):
        for name in Decision._fields:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_groups_do_not_mix_and_their_order_does_not_matter() -> None:
    def decided(order: list[int]) -> dict[int, list[Any]]:
        inference = LocalInference(_policy(VECTOR), None, seed=3)
        assert [inference.open(E), inference.open(E)] == [0, 1]
        found: dict[int, list[Any]] = {0: [], 1: []}
        for group in order:
            action = _decide(inference, len(found[group]), group).action
            found[group].append((action.copy(), inference.state(group)[0]))
        return found

    turns, one_by_one = decided([0, 1, 0, 1, 0, 1]), decided([1, 1, 1, 0, 0, 0])
    for group in (0, 1):
        np.testing.assert_equal(turns[group], one_by_one[group])
    assert any((a[0] != b[0]).any() for a, b in zip(turns[0], turns[1], strict=True)), "each draws its own"


def test_slots_that_are_kept_go_on_and_the_others_are_forgotten() -> None:
    inference = LocalInference(_policy(VECTOR), None, seed=3, greedy=True, fixed=True)
    whole = LocalInference(_policy(VECTOR), None, seed=3, greedy=True)
    inference.open(E)
    whole.open(E)
    _decide(inference)
    _decide(whole)
    kept = np.arange(E) % 5 == 1
    inference.keep(0, kept)
    inference.submit(0, *(array[kept] for array in _inputs(1)))
    np.testing.assert_allclose(inference.take(0).logits, _decide(whole, 1).logits[kept], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inference.state(0)[0], whole.state(0)[0][kept], rtol=1e-5, atol=1e-6)


def test_a_group_written_down_goes_on_in_another_process() -> None:
    one, other = (LocalInference(_policy(VECTOR), None, seed=seed) for seed in (3, 4))
    one.open(E)
    other.open(E)
    _decide(one)
    other.load_state_dict(0, one.state_dict(0))
    for step in (1, 2):
        np.testing.assert_array_equal(_decide(one, step).action, _decide(other, step).action)
