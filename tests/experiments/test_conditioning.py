"""Experiments on trace conditioning: equal sizes are equal, and the error is measured in a real run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tyro

from actors.policy import Policy
from configs.presets import preset
from configs.schema import Config
from envs.make import env_spec
from experiments import conditioning
from experiments.catalogue import Arm
from experiments.conditioning import (
    ARMS,
    INPUTS,
    MEMORYLESS,
    OPERATIONS,
    OPTIMAL,
    SIZES,
    SIZES_BY_OPERATIONS,
    SOLVED,
    arm,
    core,
    task,
)
from experiments.costs import operations, parameters, size_of
from experiments.runner import conduct
from kernels.cells import make_core


def config_of(its: Arm) -> Config:
    return tyro.cli(Config, default=preset(its.preset), args=its.overrides.split())


@pytest.mark.parametrize("name", ARMS)
def test_equal_parameters_are_equal(name: str) -> None:
    config = config_of(arm(*ARMS[name], 1e-2))
    policy = Policy(env_spec(config.env), config.policy)
    assert policy.core.input_size == INPUTS
    assert sum(p.numel() for p in policy.core.parameters()) == pytest.approx(1040, rel=0.025)
    assert (config.unroll_length, config.credit) == (ARMS[name][2], ARMS[name][1])
    assert config.eval.interval_steps == conditioning.TOTAL_STEPS


@pytest.mark.parametrize("name", SIZES_BY_OPERATIONS)
def test_equal_operations_are_equal(name: str) -> None:
    its, credit, unroll = ARMS[name]
    count = operations(make_core(its, INPUTS, SIZES_BY_OPERATIONS[name]), credit, unroll)
    assert count == pytest.approx(OPERATIONS, rel=0.035)
    assert SIZES_BY_OPERATIONS[name] == size_of(its, INPUTS, OPERATIONS, credit, unroll)


def test_operations_are_those_counted_by_hand() -> None:
    N, D, T = 3, 5, 4
    rtu = make_core("rtu", D, N)
    # Two matrices forward, two weight gradients; RTRL: a trace of 2 x 2 planes, contracted once in T steps.
    assert operations(rtu, "tbptt", T) == 2 * 2 * N * D * 2
    assert operations(rtu, "rtrl", T) == 2 * 2 * N * D * 2 + 2 * 4 * N * D + 2 * 4 * N * D / T
    # The linear one keeps one matrix's trace, and contracts it twice.
    linear = make_core("linear_rtu", D, N)
    assert operations(linear, "rtrl", T) == 2 * 2 * N * D * 2 + 2 * 2 * N * D + 2 * 4 * N * D / T
    # The eLSTM's output gate reads [x; c]: forward, and gradients of its weights and of what it read.
    elstm = make_core("elstm", D, N)
    gate = 2 * N * (D + N) * 3
    assert operations(elstm, "rtrl", T) == 2 * 2 * N * D * 2 + 2 * 2 * N * D + 2 * 2 * N * D / T + gate
    assert parameters(elstm) == 2 * N * D + 4 * N + N * (D + N) + N
    # Three gates of a GRU: of the input forward and weight gradient, of the state the state's gradient too.
    assert operations(make_core("gru", D, N), "tbptt", T) == 2 * 3 * N * D * 2 + 2 * 3 * N * N * 3
    with pytest.raises(TypeError, match="only element-wise cells"):
        operations(make_core("felstm", D, N), "tbptt", T)


def test_the_bounds_are_the_tasks() -> None:
    assert 0.012 < OPTIMAL < 0.013 and 0.12 < MEMORYLESS < 0.13
    assert pytest.approx((MEMORYLESS - SOLVED) / (MEMORYLESS - OPTIMAL), abs=1e-3) == 0.9


def test_a_run_is_measured_by_its_last_weights(tmp_path: Path) -> None:
    small = {"more": "--env.memory.episode-steps 200 --eval.episodes 2"}
    one = conditioning.experiment(
        "trace_conditioning_pilot", "A small one.", {"rtu": arm("rtu", "rtrl", 5, 1e-2, **small)}
    )
    assert conduct(one, out=tmp_path, arms=["rtu"], seeds=[3], jobs=1, total_steps=480) == 0
    found = json.loads((tmp_path / "summary.json").read_text())["arms"]["rtu"]["final"]["3"]
    rows = [json.loads(line) for line in (tmp_path / "runs/rtu-seed3/metrics.jsonl").read_text().splitlines()]
    assert [row["eval/return_error"] for row in rows if "eval/return_error" in row] == [found]
    assert 0.0 < found < 1.0


def test_gated_cells_keep_the_presets_forget_bias() -> None:
    assert "--policy.forget-bias 2" in core("mingru") and "--policy.forget-bias 0" in core("rtu")
    assert f"--grad-norm-clipping {20 * conditioning.STREAMS}" in task(20)
    assert {core_of for core_of, _, _ in ARMS.values()} == set(SIZES)
