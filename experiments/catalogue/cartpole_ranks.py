"""CartPole with velocities hidden, learned by one learner and by two that share its streams and batches."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.catalogue.tmaze_ranks import one_and_two

EXPERIMENT = Experiment(
    name="cartpole_ranks",
    description=(
        "Two actors of 16 streams each, and batches of 32 columns: one learner takes all of them, or each "
        "of two takes one actor's, and their gradients are summed. As tmaze_ranks, with unrolls of 64 steps."
    ),
    arms=one_and_two("cartpole_rtrl"),
    total_steps=1_000_000,
    seeds=(0, 1, 2),
    metric="return",
    chance=None,
    best=500.0,
    solved=400.0,
    digits=0,
)
