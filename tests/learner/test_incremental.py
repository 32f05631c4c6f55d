"""Learning at every step: unroll_length 1, through the loop, for every core and credit that it has."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from configs.core import RTRL_CORES, SNAP1_CORES
from tests.learner.loop_runs import Run, tiny

TBPTT_CORES = ("lstm", "gru", *RTRL_CORES, *SNAP1_CORES)
ARMS = [
    *((core, "tbptt") for core in TBPTT_CORES),
    *((core, "rtrl") for core in RTRL_CORES),
    *((core, "snap1") for core in SNAP1_CORES),
]


@pytest.mark.parametrize(("core", "credit"), ARMS)
def test_an_update_a_step_moves_every_weight_of_the_core(core: str, credit: str, tmp_path: Path) -> None:
    base = tiny()
    policy = dataclasses.replace(base.policy, core=core, hidden_size=6)
    run = Run(tiny(unroll_length=1, policy=policy, credit=credit), tmp_path)
    before = {name: value.clone() for name, value in run.learner.policy.core.state_dict().items()}
    run.run(until=4)
    after = run.learner.policy.core.state_dict()
    assert run.learner.updates == 4 and run.learner.global_step == 4 * 8
    assert all(value.isfinite().all() for value in after.values())
    assert [name for name in before if torch.equal(before[name], after[name])] == []
