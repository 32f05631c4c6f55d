"""What the benchmarks of cells compare is what they say."""

from __future__ import annotations

import pytest
import torch

from benchmarks import incremental, stacks
from benchmarks.cells import NAMES, Case
from kernels.cells import RTRL_CORES


def test_every_rtrl_core_has_its_cost_measured_at_as_many_weights() -> None:
    assert set(NAMES) == set(RTRL_CORES)
    weights = {name: len(case.weights) * case.N for name in NAMES for case in [Case(name, 2, 2)]}
    assert set(weights.values()) == {1024}
    assert Case("lru", 2, 2).cpu_ms(rtrl=True) > 0.0


def test_the_top_of_a_stack_is_exact_and_one_unroll_of_all_is_everything(monkeypatch) -> None:
    monkeypatch.setattr(stacks, "T", 24)
    monkeypatch.setattr(stacks, "UNROLLS", (1, 6, 24))
    for name in stacks.CELLS:
        found = stacks.measure(name, seed=0)
        assert all(found[unroll]["top"][0] < 1e-12 for unroll in found)
        assert found[24]["RTRL"][0] < 1e-12 and found[24]["TBPTT"][1] == pytest.approx(1.0)
        assert found[6]["RTRL"][0] > 1e-3 and found[6]["TBPTT"][0] > 1e-3


def test_incremental_cores_have_the_papers_size_and_a_long_window_the_gradient_of_rtrl() -> None:
    for name in ("elstm", "rtu", "gru"):
        assert abs(incremental.sized_core(name)[2] / incremental.WEIGHTS - 1.0) < 0.02
    torch.manual_seed(1)
    rtrl, tbptt, short = (incremental.Learner("rtu", T) for T in (None, 6, 2))
    for learner in (rtrl, tbptt, short):
        learner.optimizer.param_groups[0]["lr"] = 0.0  # weights that stay: RTRL's condition
    for _ in range(6):
        x, target = torch.randn(1, incremental.INPUTS), torch.randn(1, 1)
        for learner in (rtrl, tbptt, short):
            learner.update(x, target)
    ours, theirs, cut = ([p.grad for p in learner.parameters] for learner in (rtrl, tbptt, short))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(ours[0], cut[0], rtol=1e-3)  # type: ignore[arg-type]
