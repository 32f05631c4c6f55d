"""CartPole with velocities hidden, learned by one learner and by two that share its streams and batches."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.catalogue.tmaze_ranks import THROUGH_RAY

EXPERIMENT = Experiment(
    name="cartpole_ranks",
    description=(
        "Two actors of 16 streams each, and batches of 32 columns: one learner takes all of them, or each "
        "of two takes one actor's, and their gradients are summed. As tmaze_ranks, with unrolls of 64 steps."
    ),
    arms={
        "one": Arm(preset="cartpole_rtrl", overrides=THROUGH_RAY),
        "two": Arm(preset="cartpole_rtrl", overrides=f"{THROUGH_RAY} --num-learners 2"),
    },
    total_steps=1_000_000,
    seeds=(0, 1, 2),
    metric="return",
    chance=None,
    best=500.0,
    solved=400.0,
    digits=0,
)
