"""Ever longer corridors at an unroll of 5."""

from __future__ import annotations

from benchmarks.experiments import Experiment
from benchmarks.tmaze import CHANCE, SOLVED, bias, both, corridor, scaled_bias, success

TBPTT_UP_TO = 40
"""It is at chance from 10 steps on: longer corridors would only cost time."""

EXPERIMENT = Experiment(
    name="tmaze_delay",
    description=(
        "Corridors of 10 to 640 steps, half of them quiet, always in unrolls of 5, with steps in "
        "proportion to the corridor, so that every length sees as many games. The forget bias starts at "
        "ln L - 1, since exact credit still vanishes with the product of the forget gates: without that "
        "the sweep would measure the initialisation. The question is how far credit is carried across "
        "unroll boundaries; traces grow stale over up to 128 unrolls, and where RTRL stops solving the "
        "task that is a result too."
    ),
    arms={
        name: arm
        for length in (10, 20, 40, 80, 160, 320, 640)
        for name, arm in both(
            f"L{length}",
            length,
            f"{corridor(length, quiet=length // 2)} {bias(scaled_bias(length))}",
            total_steps=15_000 * length,
        ).items()
        if arm.series == "rtrl" or length <= TBPTT_UP_TO
    },
    total_steps=300_000,
    seeds=(0, 1, 2),
    plot="sweep",
    x_label="steps between cue and choice (unroll 5)",
    log_x=True,
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
