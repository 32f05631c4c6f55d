"""`benchmarks.far_update`: what is held is what autograd keeps, and the traces."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from benchmarks import far_update
from configs.presets import preset


def test_each_piece_of_memory_counts_once_and_weights_do_not() -> None:
    layer = nn.Linear(64, 64, bias=False)
    x = torch.randn(128, 64, requires_grad=True)

    def update() -> None:
        y = layer(x)  # keeps x and the weight
        (y * y).sum().backward()  # keeps y, twice

    assert far_update.kept(update, layer) == 2 * 128 * 64 * 4


def test_what_is_held_grows_with_the_unroll_and_traces_are_rtrls(monkeypatch: pytest.MonkeyPatch) -> None:
    def case(arm: str, unroll: int) -> far_update.Case:
        return far_update.Case(dataclasses.replace(preset(f"memory_{arm}"), unroll_length=unroll))

    made = {"rtrl": case("rtrl", 5), "tbptt": case("tbptt", 5), "long": case("tbptt", 50)}
    monkeypatch.setattr(far_update, "cases", lambda: made)
    result = far_update.measure(2)
    held = {name: row["autograd_mib"] for name, row in result.items()}
    assert 8 < held["long"] / held["tbptt"] < 12
    # Of a unit: the rows of two matrices, of 7 numbers padded to 16; two recurrent weights; two biases.
    assert result["rtrl"]["traces_mib"] * 2**20 == 16 * 32 * (2 * 16 + 2 + 2) * 4
    assert result["tbptt"]["traces_mib"] == result["long"]["traces_mib"] == 0.0
    assert "| long | 50 | 16 |" in far_update.markdown(result)
