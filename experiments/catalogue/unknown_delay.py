"""The T-maze at three lengths by a start that is told none of them."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, corridor, scaled_bias, success

STEPS = {20: 300_000, 160: 1_200_000, 640: 4_000_000}
"""Length to agent steps."""

EXPERIMENT = Experiment(
    name="unknown_delay",
    description=(
        "Corridors of 20, 160 and 640 steps, half of them quiet, always in unrolls of 5, by the memory "
        "preset as it is, which is told nothing of the length: its forget biases begin spread over the units "
        "from 0 to 8. Beside it all at ln L - 1, which has to know the length, and all at 2, the start that "
        "suits 20 steps. The question is what not knowing costs, in steps to success 0.95."
    ),
    arms={
        f"{series}_L{length}": Arm(
            preset="memory_rtrl",
            overrides=f"{corridor(length, quiet=length // 2)} {start}".strip(),
            total_steps=steps,
            series=series,
            x=length,
        )
        for length, steps in STEPS.items()
        for series, start in (("spread", ""), ("known", bias(scaled_bias(length))), ("bias2", bias(2.0)))
    },
    first=tuple(f"{series}_L{length}" for length in STEPS for series in ("spread", "known")),
    total_steps=STEPS[640],
    seeds=(100, 101, 102),
    plot="sweep",
    x_label="steps between cue and choice (unroll 5)",
    log_x=True,
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
