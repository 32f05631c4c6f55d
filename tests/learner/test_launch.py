"""An update asks the device nothing; one that is not finite moves nothing, and is told when it is read."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from actors.policy import Policy
from configs.ppo import PpoConfig
from configs.schema import Config, PolicyConfig, RtrlConfig
from learner.batcher import Batch
from learner.learner import Learner, LearnerError
from learner.optimizer import PolicyOptimizer
from learner.publish import HostCopy
from learner.records.state import split_state
from tests.learner.batches import SPEC, config, random_batch

T, B = 6, 3
NORMALISED = PolicyConfig(encoder="mlp", features=4, core="elstm", hidden_size=5, normalise_observations=True)
PPO: dict[str, Any] = {"objective": "ppo", "ppo": PpoConfig(chunk_length=2, epochs=2, minibatches=3)}
OPTIMIZERS: list[dict[str, Any]] = [{}, {"momentum": 0.9}, {"optimizer": "adam"}]


def _learner(device: str = "cpu", **changes: Any) -> Learner:
    torch.manual_seed(0)
    settings: Config = config(**changes)
    return Learner(Policy(SPEC, settings.policy), settings, torch.device(device))


def _batch(number: int = 0, **changes: Any) -> Batch:
    batch = random_batch(
        T, B, seed=number, dtype=torch.float32, piece=(0, 7, number), ends=[(2, 1, "terminated")]
    )
    return dataclasses.replace(batch, **changes)


def _bad(number: int) -> Batch:
    return _batch(number, reward=torch.full((T + 1, B), float("nan")))


def _state(learner: Learner) -> dict[str, Tensor]:
    """Weights, moments, statistics: all but traces, and what is the host's."""
    learner._reports.clear()
    state = copy.deepcopy(learner.state_dict())
    kept = {name: state[name] for name in ("policy", "optimizer", "rewards")}
    if state["return_sums"] is not None:
        kept["sums"] = state["return_sums"]["sums"]
    return split_state(kept, "")[0]


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Moments that `a` does not have yet are 0 in `b`."""
    assert a.keys() <= b.keys()
    for name in b:
        assert torch.equal(a.get(name, torch.zeros_like(b[name])), b[name]), name


# --- no question ---------------------------------------------------------------------------------


def _on(device: str, batch: Batch) -> Batch:
    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device)

    fields = {
        field.name: move(value)
        for field in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, field.name), Tensor)
    }
    state = tuple(map(move, batch.initial_state))
    return dataclasses.replace(batch, **fields, initial_state=state)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"credit": "tbptt", "momentum": 0.9},
        {"diagnostics_interval": 1, "rtrl": RtrlConfig(max_trace_norm=1.0, staleness_interval=1)},
        {"rtrl": RtrlConfig(fresh_traces=True)},
        {"policy": NORMALISED, "normalise_rewards": True},
        PPO | {"diagnostics_interval": 1},
    ],
    ids=["vtrace", "tbptt", "measured", "fresh", "normalised", "ppo"],
)
def test_an_update_asks_the_device_nothing(changes: dict[str, Any]) -> None:
    """On meta tensors, which have no numbers: whoever asks for one gets an error. What the kernels ask is
    another test's (tests/kernels/test_host_waits.py)."""
    learner = _learner("meta", **changes)
    for number in range(3):
        learner.launch(_on("meta", _batch(number)))
        HostCopy(learner.policy, learner.updates)
    assert learner.unread == learner.updates == 3
    assert all(tensor.is_meta for tensor in learner.policy.state_dict().values())


@pytest.mark.parametrize("question", ["loss", "metrics", "weights"])
def test_a_question_within_an_update_is_found(question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = _learner("meta")
    finite, norm = Tensor.isfinite, torch.nn.utils.get_total_norm
    if question == "loss":
        monkeypatch.setattr(Tensor, "isfinite", lambda tensor: torch.tensor(bool(finite(tensor))))
    elif question == "metrics":
        monkeypatch.setattr(torch.nn.utils, "get_total_norm", lambda g: torch.tensor(norm(g).item()))
    else:
        monkeypatch.setattr(learner, "_observe", lambda batch: next(learner.policy.parameters()).cpu())
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        learner.launch(_on("meta", _batch()))


# --- a step that is not finite -------------------------------------------------------------------


@pytest.mark.parametrize("good", [0, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["rmsprop", "momentum", "adam"])
def test_an_update_that_is_not_finite_moves_nothing_nor_do_those_after_it(
    optimizer: dict[str, Any], good: int
) -> None:
    learner = _learner(policy=NORMALISED, normalise_rewards=True, **optimizer)
    for number in range(good):
        learner.update(_batch(number))
    before = _state(learner)
    learner.launch(_bad(good))
    _same(before, _state_unread(learner))
    learner.launch(_batch(good + 1))
    _same(before, _state_unread(learner))
    assert learner.updates == good + 2
    step = good * T * B
    with pytest.raises(
        LearnerError, match=rf"^update {good} at step {step}: loss nan, gradient norm nan \(total nan, policy"
    ):
        learner.read()
    assert (learner.updates, learner.global_step, learner.unread) == (good, step, 0)
    assert learner.is_sound()
    _same(before, _state(learner))
    learner.update(_batch(good))  # of new streams it can go on
    assert learner.updates == good + 1


def _state_unread(learner: Learner) -> dict[str, Tensor]:
    reports = learner._reports.copy()
    state = _state(learner)
    learner._reports.extend(reports)
    return state


def test_a_step_dropped_in_the_middle_of_a_batch_leaves_weights_that_are_not_saved() -> None:
    """PPO's third step of six. Those before it stand, those after it move nothing."""
    learner, control = _learner(**PPO), _learner(**PPO)
    losses = control.objective.losses

    def first(count: int, spoil: bool) -> Any:
        def some(*arguments: Any) -> Any:
            for number, loss in enumerate(losses(*arguments)):
                if number == count and not spoil:
                    return
                yield dataclasses.replace(loss, total=loss.total * float("nan")) if number == count else loss

        return some

    control.objective.losses = first(2, spoil=False)  # type: ignore[method-assign]
    control.update(_batch())
    losses = learner.objective.losses
    learner.objective.losses = first(2, spoil=True)  # type: ignore[method-assign]
    learner.launch(_batch())
    with pytest.raises(LearnerError, match="update 0 at step 0: loss nan"):
        learner.read()
    _same(_state(control), _state(learner))
    assert learner.updates == 0 and not learner.is_sound()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_selected_step_of_rmsprop_is_its_step_or_none(momentum: float) -> None:
    """As on a GPU, where nobody asks whether the step is sound."""
    settings = config(momentum=momentum, policy=NORMALISED)
    policies = [Policy(SPEC, settings.policy) for _ in range(2)]
    policies[1].load_state_dict(policies[0].state_dict())
    plain, selected = (PolicyOptimizer(policy, settings) for policy in policies)
    yes, no = torch.tensor(True), torch.tensor(False)

    def tensors(optimizer: PolicyOptimizer, policy: Policy) -> dict[str, Tensor]:
        state = split_state({"optimizer": optimizer.state_dict(), "policy": policy.state_dict()}, "")[0]
        return {name: tensor for name, tensor in state.items() if not name.endswith("/step")}

    for number in range(3):
        torch.manual_seed(number)
        for one, other in zip(*(policy.parameters() for policy in policies), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = torch.full_like(other, float("nan"))
        before = {name: tensor.clone() for name, tensor in tensors(selected, policies[1]).items()}
        selected._step_and_select(no)
        _same(before, tensors(selected, policies[1]))
        for one, other in zip(*(policy.parameters() for policy in policies), strict=True):
            assert one.grad is not None
            other.grad = one.grad.clone()
        plain.step(settings.learning_rate, yes)
        selected._step_and_select(yes)
        _same(tensors(plain, policies[0]), tensors(selected, policies[1]))


def test_metrics_are_the_same_whenever_they_are_read() -> None:
    changes: dict[str, Any] = {
        **PPO,
        "policy": NORMALISED,
        "normalise_rewards": True,
        "diagnostics_interval": 1,
        "rtrl": RtrlConfig(max_trace_norm=1e-3),
    }
    one, other = _learner(**changes), _learner(**changes)
    at_once = [one.update(_batch(number)) for number in range(3)]
    for number in range(3):
        other.launch(_batch(number))
    late = [other.read() for _ in range(3)]
    for a, b in zip(at_once, late, strict=True):
        assert a.keys() == b.keys()
        assert all(a[name] == b[name] for name in a if not name.startswith("perf/"))


def test_what_was_not_read_is_not_saved() -> None:
    learner = _learner()
    learner.launch(_batch())
    with pytest.raises(AssertionError, match="not finite would be saved"):
        learner.state_dict()
