"""The T-maze again, twice as long, with unrolls of 10."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, corridor, success, unroll

TASK = f"{corridor(40, quiet=20)} {unroll(10)} {bias(3)}"

EXPERIMENT = Experiment(
    name="tmaze_b",
    description=(
        "As tmaze, with twenty noisy and twenty quiet steps, unrolls of 10, a forget bias of 3, and "
        "600,000 steps: the stricter of the two tasks. The same limits of the claim hold: sample "
        "efficiency at a fixed unroll length, not what TBPTT can do at any price."
    ),
    arms={
        "rtrl": Arm(preset="memory_rtrl", overrides=TASK),
        "tbptt": Arm(preset="memory_tbptt", overrides=TASK),
        "lstm": Arm(preset="memory_lstm", overrides=TASK),
        "immediate": Arm(preset="memory_tbptt", overrides=f"{TASK} --credit immediate"),
        "frozen_core": Arm(preset="memory_tbptt", overrides=f"{TASK} --policy.freeze-core"),
    },
    total_steps=600_000,
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
