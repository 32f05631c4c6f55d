"""Ever longer corridors at an unroll of 5."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, corridor, scaled_bias, success

SERIES = {
    "rtrl": ("memory_rtrl", (10, 20, 40, 80, 160, 320, 640), scaled_bias),
    "rtrl_bias2": ("memory_rtrl", (40, 80, 160, 320), lambda length: 2.0),
    "tbptt": ("memory_tbptt", (10, 20, 40), scaled_bias),
}
"""Preset, lengths and forget bias. TBPTT is at chance from the shortest on: more would only cost time."""


def _steps(length: int) -> int:
    """In proportion to the length, so that each sees as many games; fewer where games are long."""
    return length * (15_000 if length <= 80 else 6_000)


EXPERIMENT = Experiment(
    name="tmaze_delay",
    description=(
        "Corridors of 10 to 640 steps, half of them quiet, always in unrolls of 5, with steps in "
        "proportion to the corridor (15,000 a corridor step, from 160 on 6,000). The question is how far "
        "credit is carried across unroll boundaries, and what limits it: exact credit still vanishes with "
        "the product of the forget gates. So the forget bias starts at ln L - 1, which lets a unit forget "
        "over a time that grows with the corridor, or, in the series rtrl_bias2, at 2 whatever "
        "the length."
    ),
    arms={
        f"{series}_L{length}": Arm(
            preset=preset,
            overrides=f"{corridor(length, quiet=length // 2)} {bias(forget_bias(length))}",
            total_steps=_steps(length),
            series=series,
            x=length,
        )
        for series, (preset, lengths, forget_bias) in SERIES.items()
        for length in lengths
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
