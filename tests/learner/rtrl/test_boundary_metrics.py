"""The rtrl/* metrics are what docs/metrics.md says, to the unit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from actors.policy import Policy
from kernels.cells.elstm.core import ELSTM
from kernels.elstm import ELSTMTrace
from learner.learner import Learner
from learner.rtrl.diagnostics import boundary_share, cosine
from tests.learner.batches import SPEC, config, random_batch

T, B = 6, 3


def test_boundary_share_by_loops() -> None:
    rng = np.random.default_rng(0)
    streams, units, inputs = 2, 3, 4
    shapes = [(streams, units, inputs)] * 2 + [(streams, units)] * 4
    layers = [[rng.normal(size=shape) for shape in shapes] for _ in range(2)]
    adjoint = [rng.normal(size=(streams, units)) for _ in layers]
    gradient = [rng.normal(size=(units, inputs)), rng.normal(size=units)]

    squares, boundary = 0.0, 0.0
    for lam, trace in zip(adjoint, layers, strict=True):
        for sensitivity in trace:
            squares += sum(float(value) ** 2 for value in sensitivity.flat)
            for where in np.ndindex(sensitivity.shape[1:]):
                term = sum(float(lam[b, where[0]] * sensitivity[b][where]) for b in range(streams))
                boundary += term**2
    whole = sum(float(value) ** 2 for part in gradient for value in part.flat)

    found = boundary_share(
        [ELSTM(inputs, units).double() for _ in layers],
        [ELSTMTrace(*map(torch.from_numpy, trace)).packed() for trace in layers],
        [torch.from_numpy(lam) for lam in adjoint],
        [torch.from_numpy(part) for part in gradient],
    )
    assert found["rtrl/trace_norm"] == pytest.approx(math.sqrt(squares / streams))
    assert found["rtrl/boundary_grad_frac"] == pytest.approx(math.sqrt(boundary / whole))


def test_cosine_by_hand() -> None:
    a = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    b = [torch.tensor([0.0, 2.0]), torch.tensor([[-1.0]])]
    assert cosine(a, b) == pytest.approx(-4.0 / (5.0 * math.sqrt(5.0)))
    assert cosine(a, [2.0 * part for part in a]) == pytest.approx(1.0)
    assert cosine(a, [0.0 * part for part in a]) == 1.0


def _learner(credit: str) -> Learner:
    torch.manual_seed(0)
    settings = config(credit=credit, diagnostics_interval=1, learning_rate=0.01, grad_norm_clipping=1e9)
    return Learner(Policy(SPEC, settings.policy).double(), settings, torch.device("cpu"))


def test_the_boundary_term_is_what_tbptt_lacks() -> None:
    """In a real update: norm of (RTRL's gradient - TBPTT's) over the norm of RTRL's, of the core."""
    batches = [random_batch(T, B, seed=n, ends=[(3, 0, "truncated")], piece=(0, 7, n)) for n in range(2)]
    learner, tbptt = _learner("rtrl"), _learner("tbptt")
    learner.update(batches[0])
    tbptt.policy.load_state_dict(learner.policy.state_dict())
    assert learner.rtrl is not None
    rows = learner.rtrl.bank.state_dict()["layers"][0]
    norm = math.sqrt(sum(float(tensor.square().sum()) for tensor in rows) / B)
    metrics = learner.update(batches[1])
    tbptt.update(batches[1])

    def gradient(of: Learner) -> torch.Tensor:
        return torch.cat(
            [p.grad.flatten() for p in of.policy.core.recurrent_parameters() if p.grad is not None]
        )

    whole = gradient(learner)
    share = float((whole - gradient(tbptt)).norm() / whole.norm())
    assert metrics["rtrl/trace_norm"] == pytest.approx(norm) and norm > 0.01
    assert metrics["rtrl/boundary_grad_frac"] == pytest.approx(share) and share > 0.01
