"""Nested state survives a checkpoint bit for bit, and what a checkpoint cannot hold is named."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from learner.records.checkpoint import CheckpointError, load, save
from learner.records.state import fill, join_state, split_state


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and bool((a == b).all())
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_optimizer_state_survives_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)

    def train(optimizer: torch.optim.Optimizer) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()

    first = torch.optim.RMSprop(model.parameters(), lr=0.01, momentum=0.5)
    train(first)
    tensors, skeleton = split_state(first.state_dict(), "optimizer")
    assert "optimizer/state/0/square_avg" in tensors
    path = save(tmp_path, 3, tensors, {"optimizer": skeleton}, keep_last=1)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(first)
    uninterrupted = [p.detach().clone() for p in model.parameters()]

    loaded = load(path)
    model.load_state_dict(weights)
    second = torch.optim.RMSprop(model.parameters(), lr=9.0)
    second.load_state_dict(join_state(loaded.meta["optimizer"], loaded.tensors))
    train(second)
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted, model.parameters(), strict=True))


def test_state_of_every_allowed_kind(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    state: dict[object, object] = {
        "numpy": generator.bit_generator.state,  # holds integers of 128 bits
        "legacy": {"key": np.arange(624, dtype=np.uint32), "flags": np.array([True, False])},
        "python": random.Random(5).getstate(),
        "torch": torch.get_rng_state(),
        1: {"nested": [1, 2.5, None, True, "text", [], {}, (), (torch.ones(2),)]},
        "tensor": {"dict": 1, "tuple": "words that the encoding uses itself"},
        "tiny": 5e-324,
    }
    tensors, skeleton = split_state(state)
    assert "torch" in tensors and "1/nested/8/0" in tensors
    loaded = load(save(tmp_path, 0, tensors, {"state": skeleton}, keep_last=1))
    assert same(join_state(loaded.meta["state"], loaded.tensors), state)


def test_state_that_cannot_be_held_is_named() -> None:
    with pytest.raises(TypeError, match="state a/b/1 is a set"):
        split_state({"b": [0, {1}]}, "a")
    with pytest.raises(TypeError, match="state a has a key that is neither"):
        split_state({(1, 2): 0}, "a")
    with pytest.raises(ValueError, match="two tensors of the state are both called b/c"):
        split_state({"b/c": torch.ones(1), "b": {"c": torch.ones(1)}})


def test_state_without_its_tensor_is_an_error() -> None:
    _, skeleton = split_state({"w": torch.ones(1)}, "policy")
    with pytest.raises(CheckpointError, match="no tensor policy/w"):
        join_state(skeleton, {})


def test_another_shape_is_not_spread_over_what_is_there() -> None:
    tensor = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"\[3\] was saved of what is \[2, 3\] here"):
        fill(tensor, torch.ones(3))
    assert not tensor.any()
    fill(tensor, torch.ones(2, 3))
    assert tensor.all()
