"""The learner-step benchmark: it times no wrong gradient, its streams go on, its files hold together."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import bench, learner_step, options
from benchmarks.learner_step import ARMS, check, measure
from benchmarks.learner_step_case import Rollouts, Size, make_learner
from kernels.rtrl import chunked

CPU = torch.device("cpu")
SIZE = Size(6, 3, 8, "mlp")


def test_streams_go_on_from_batch_to_batch_and_episodes_end_inside() -> None:
    rollouts = Rollouts(Size(50, 8, 4, "mlp"), CPU)
    first, second = rollouts.next_batch(), rollouts.next_batch()
    assert [piece.sequence_number for piece in second.streams] == [1] * 8
    assert [piece.first_stream for piece in first.streams] == list(range(8))
    assert torch.equal(second.reset[1:], second.terminated[:-1]) and second.reset.any()
    assert not (second.terminated & second.reset).any()


def test_learners_start_from_the_same_weights_whatever_the_credit() -> None:
    a, b = (make_learner(SIZE, credit, CPU).policy.state_dict() for credit in ("rtrl", "tbptt"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_traces_are_carried_and_what_is_measured_adds_up() -> None:
    result = measure(SIZE, CPU, rounds=3)
    assert result["errors"]["rtrl_off_tbptt"] <= 1e-5
    assert [sorted(row) for row in result["rounds"]] == [sorted(ARMS)] * 3
    assert all(row["rtrl"]["trace_breaks"] == 0 for row in result["rounds"])
    ratios = [row["rtrl"]["ms"] / row["tbptt"]["ms"] for row in result["rounds"]]
    assert result["ratio"]["ms"]["min"] == min(ratios) and result["ratio"]["ms"]["max"] == max(ratios)


@pytest.mark.parametrize("part", ["weights", "whole"])
def test_no_speed_is_reported_for_a_wrong_gradient(monkeypatch, capsys, part) -> None:
    """A fault of two weights' gradients, and a factor common to all, which clipping would hide."""
    right = chunked.backward

    def wrong(*arguments):
        grad_x, grad_W, *others = right(*arguments)
        banked = arguments[11] is not None
        return grad_x, grad_W * (1.001 if banked else 1.0), *others

    learners = {name: make_learner(SIZE, credit, CPU) for name, credit in ARMS.items()}
    if part == "weights":
        monkeypatch.setattr(chunked, "backward", wrong)
    else:
        plain = learner_step.Learner.update

        def doubled(learner, batch):
            metrics = plain(learner, batch)
            factor = 2.0 if learner.rtrl is not None else 1.0
            return metrics | {"losses/grad_norm": factor * metrics["losses/grad_norm"]}

        monkeypatch.setattr(learner_step.Learner, "update", doubled)
    with pytest.raises(SystemExit, match="WRONG: from zero traces RTRL's gradient is off TBPTT's"):
        check(learners, Rollouts(SIZE, CPU).next_batch())
    assert "ms" not in capsys.readouterr().out


def test_results_are_saved_as_data_and_table(tmp_path) -> None:
    threads = str(torch.get_num_threads())
    sizes = [
        "--T",
        "4",
        "--B",
        "2",
        "--N",
        "8",
        "--encoder",
        "shallow",
        "--rounds",
        "2",
        "--threads",
        threads,
    ]
    out = tmp_path / "one.json"
    assert bench.main(["learner", "--quick", *sizes, "--out", str(tmp_path), "--json", str(out)]) == 0
    data = json.loads((tmp_path / "learner-step-cpu.json").read_text())
    assert json.loads(out.read_text()) == data
    assert data["step"]["size"] == {"T": 4, "B": 2, "N": 8, "encoder": "shallow", "frame": 64}
    assert len(data["step"]["rounds"]) == 2 and data["small_encoder"]["size"]["encoder"] == "mlp"
    assert data["machine"]["torch_threads"] == int(threads)
    table = (tmp_path / "learner-step-cpu.md").read_text().splitlines()
    assert sum(line.startswith(("| 1 | ", "| 2 | ")) for line in table) == 2 * len(ARMS)


def test_options_are_compared_with_the_default_and_saved(tmp_path, capsys, monkeypatch) -> None:
    """One that cannot be had here says why, and stops no other."""
    real = options.check_bfloat16

    def without(field, compute, device):
        monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
        real(field, compute, device)

    monkeypatch.setattr(options, "check_bfloat16", without)
    assert bench.main(["options", "--quick", "--out", str(tmp_path)]) == 0
    rows = {row["way"]: row for row in json.loads((tmp_path / "options-cpu.json").read_text())["options"]}
    assert rows["encoder_dtype bfloat16"]["error"].startswith("ConfigError: compute.encoder_dtype = 'bfl")
    assert rows["default"]["ratios"] == [1.0] * 3 and rows["default"]["off"] == 0.0
    assert rows["contiguous"]["ms"]["median"] > 0 and rows["contiguous"]["off"] < 1e-4
    assert "| contiguous |" in (tmp_path / "options-cpu.md").read_text()


def test_what_the_default_leaves_off_is_what_the_options_turn_on() -> None:
    ways = options.settings(torch.device("cuda")) | options.compiled()
    asked = [way["compute"] for way in ways.values()]
    assert {compute.tf32 for compute in asked} == {"auto", "off", "all"}
    assert {compute.encoder_dtype for compute in asked} == {"float32", "bfloat16"}
    assert next(iter(ways)) == options.DEFAULT == next(iter(options.compiled()))
