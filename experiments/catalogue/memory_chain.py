"""bsuite's memory chain at 128, 512 and 1,500 steps."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.far import arms, untold
from experiments.tmaze import CHANCE, SOLVED, success

STEPS = {128: 1_500_000, 512: 3_000_000, 1500: 6_000_000}
"""Length to agent steps."""
AT_ONCE = "--discounting 0.5 --entropy-cost 1e-4"

EXPERIMENT = Experiment(
    name="memory_chain",
    description=(
        "A bit at the first step, nothing but the time that is left for 128, 512 or 1,500 steps, and then "
        "the choice, in unrolls of 20 whatever the length, from forget biases that are spread: nothing is "
        "told of the delay. A streaming trace unit has been shown to reach 128 steps (arXiv 2605.24709). "
        "The choice is paid at once, and a discount of 0.5 keeps its reward from the steps before, whose "
        "actions do nothing and whose observations are as good as the same; so does a small entropy cost, "
        "which they would otherwise outvote the one choice by. Chance is 0.5."
    ),
    arms={
        name: arm
        for length, steps in STEPS.items()
        for name, arm in arms(
            "memory",
            f"--env.id memory/chain --env.memory.delay {length} {untold()} {AT_ONCE}",
            suffix=f"_{length}",
            total_steps=steps,
            x=length,
        ).items()
    },
    total_steps=STEPS[1500],
    seeds=tuple(range(100, 105)),
    plot="sweep",
    x_label="steps between bit and choice (unroll 20)",
    log_x=True,
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
