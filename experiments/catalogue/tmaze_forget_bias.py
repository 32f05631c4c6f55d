"""The T-maze by the forget gate's bias at the start."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, both, success

EXPERIMENT = Experiment(
    name="tmaze_forget_bias",
    description=(
        "RTRL computes the gradient through the whole history, but that gradient still shrinks with the "
        "product of the forget gates: with a bias of 0 a unit keeps half of its state a step, and a "
        "millionth over the corridor. TBPTT runs beside it to show that no bias opens the unroll boundary "
        "at this budget."
    ),
    arms={
        name: arm for value in (0, 1, 2, 4) for name, arm in both(f"bias{value}", value, bias(value)).items()
    },
    total_steps=400_000,
    plot="sweep",
    x_label="forget bias at the start",
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
