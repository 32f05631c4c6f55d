"""How far credit is carried at all: a quiet corridor of up to 5,000 steps in unrolls of 10."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.far import untold
from experiments.tmaze import CHANCE, SOLVED, corridor, success

STEPS = {150: 1_500_000, 500: 3_000_000, 1500: 6_000_000, 5000: 20_000_000}
"""Length to agent steps."""

EXPERIMENT = Experiment(
    name="far_delay",
    description=(
        "The task of passive_tmaze_1500, a cue, equal steps that show nothing, a choice, at 150 to 5,000 "
        "steps, in unrolls of 10 whatever the length, by RTRL alone. The forget biases begin spread, up to a "
        "time constant of 3,000 steps, and nothing is told of the delay. The question is how the steps to "
        "success 0.95 grow with the delay, and where that ends."
    ),
    arms={
        f"rtrl_{length}": Arm(
            preset="memory_rtrl",
            overrides=f"{corridor(length, quiet=length)} {untold(unroll=10)}",
            total_steps=steps,
            series="rtrl",
            x=length,
        )
        for length, steps in STEPS.items()
    },
    total_steps=STEPS[5000],
    seeds=(0, 1, 2),
    plot="sweep",
    x_label="steps between cue and choice (unroll 10)",
    log_x=True,
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
