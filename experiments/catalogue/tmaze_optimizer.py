"""The T-maze by Adam and by the papers' RMSprop."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, success

RMSPROP = "--optimizer rmsprop --epsilon 0.01 --grad-norm-clipping 40"

EXPERIMENT = Experiment(
    name="tmaze_optimizer",
    description=(
        "The loss is a sum over the batch. RMSprop with epsilon 0.01 and clipping at 40, as in IMPALA and "
        "the eLSTM paper, is not invariant to its scale as Adam is: at the papers' learning rate of 6e-4, "
        "chosen for batches of 1,600 steps, a batch of 80 steps makes slow progress, and 5e-3 is there to "
        "show what the rate alone changes."
    ),
    common=bias(2.0),
    arms={
        name: Arm(preset="memory_rtrl", overrides=overrides)
        for name, overrides in (
            ("adam", ""),
            ("rmsprop_6e-4", f"{RMSPROP} --learning-rate 6e-4"),
            ("rmsprop_5e-3", f"{RMSPROP} --learning-rate 5e-3"),
        )
    },
    total_steps=1_000_000,
    seeds=(0, 1, 2),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
