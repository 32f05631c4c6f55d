"""An encoder that is frozen, that learns at a rate of its own, or that comes from an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from actors.policy import Policy
from configs.schema import Config, ConfigError, PolicyConfig
from learner.learner import Learner
from learner.records import checkpoint
from learner.records.pretrained import take_weights
from learner.records.state import split_state
from tests.learner.batches import SPEC, config, random_batch

POLICY = PolicyConfig(encoder="mlp", features=5, core="elstm", hidden_size=5)


def _learner(policy: PolicyConfig = POLICY, seed: int = 0, **changes: Any) -> Learner:
    torch.manual_seed(seed)
    settings: Config = config(policy=policy, **changes)
    return Learner(Policy(SPEC, settings.policy), settings, torch.device("cpu"))


def _encoder(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.policy.encoder.state_dict().items()}


def _update(learner: Learner, number: int = 0) -> None:
    learner.update(random_batch(6, 3, seed=number, dtype=torch.float32, piece=(0, 7, number)))


def test_a_frozen_encoder_stays_while_the_rest_learns() -> None:
    learner = _learner(PolicyConfig(encoder="mlp", features=5, hidden_size=5, freeze_encoder=True))
    encoder, core = _encoder(learner), learner.policy.core.state_dict()["W_z"].clone()
    _update(learner)
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in _encoder(learner).items())
    assert not torch.equal(core, learner.policy.core.state_dict()["W_z"])


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_the_encoder_moves_in_proportion_to_its_rate(optimizer: str) -> None:
    moved = []
    for scale in (1.0, 0.25):
        learner = _learner(optimizer=optimizer, encoder_lr_scale=scale)
        before, core = _encoder(learner), learner.policy.core.state_dict()["W_z"].clone()
        _update(learner)
        after = _encoder(learner)
        moved.append(torch.cat([(after[name] - before[name]).flatten() for name in before]))
        moved.append(learner.policy.core.state_dict()["W_z"] - core)
    torch.testing.assert_close(moved[2], 0.25 * moved[0], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(moved[3], moved[1], rtol=0, atol=0)


def _save(learner: Learner, folder: Path, step: int) -> Path:
    tensors, rest = split_state(learner.state_dict(), "")
    return checkpoint.save(folder, step, tensors, {"state": rest}, keep_last=3)


def test_an_encoder_is_taken_from_a_run_or_a_checkpoint(tmp_path: Path) -> None:
    trained = _learner(seed=1)
    old = _save(trained, tmp_path / "checkpoints", 1)
    first = _encoder(trained)
    _update(trained)
    _save(trained, tmp_path / "checkpoints", 2)
    for path, expected in ((old, first), (tmp_path, _encoder(trained))):
        learner = _learner(seed=2)
        core = learner.policy.core.state_dict()["W_z"].clone()
        take_weights(learner.policy, PolicyConfig(load_encoder=str(path)))
        assert all(torch.equal(tensor, expected[name]) for name, tensor in _encoder(learner).items())
        assert torch.equal(core, learner.policy.core.state_dict()["W_z"])


def test_an_encoder_that_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path = _save(_learner(PolicyConfig(encoder="mlp", features=7, hidden_size=5)), tmp_path, 1)
    learner = _learner()
    before = _encoder(learner)
    with pytest.raises(ConfigError, match=r"another encoder: layers.0.bias is \[7\] there and \[5\] here"):
        take_weights(learner.policy, PolicyConfig(load_encoder=str(path)))
    with pytest.raises(ConfigError, match="no such folder"):
        take_weights(learner.policy, PolicyConfig(load_encoder=str(tmp_path / "nowhere")))
    assert all(torch.equal(tensor, before[name]) for name, tensor in _encoder(learner).items())


@pytest.mark.parametrize("field", [{"freeze_encoder": True}, {"load_encoder": "runs/x"}, {"bypass": True}])
def test_options_of_an_encoder_need_one(field: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="there is no encoder"):
        PolicyConfig(encoder="none", **field)


def test_a_resumed_run_takes_moments_from_the_checkpoint_and_rates_from_its_config() -> None:
    saved = _learner(optimizer="rmsprop", epsilon=0.01)
    _update(saved)
    same, other = _learner(optimizer="rmsprop", epsilon=0.01), _learner(optimizer="rmsprop", epsilon=10.0)
    for learner in (same, other):
        learner.load_state_dict(saved.state_dict())
        assert torch.equal(
            learner.optimizer.state_dict()["state"][0]["square_avg"],
            saved.optimizer.state_dict()["state"][0]["square_avg"],
        )
        _update(learner, 1)
    steps = [
        _encoder(learner)["layers.0.weight"] - _encoder(saved)["layers.0.weight"] for learner in (same, other)
    ]
    assert steps[1].norm() < 0.1 * steps[0].norm()
