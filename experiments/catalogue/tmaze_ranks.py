"""The T-maze through Ray, learned by one learner and by two that share its streams and batches."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, success

THROUGH_RAY = "--runtime ray --num-actors 2"
"""A later option wins, so the runner's `--runtime inline` does not count."""

EXPERIMENT = Experiment(
    name="tmaze_ranks",
    description=(
        "Two actors of 8 streams each, and batches of 16 columns: one learner takes all of them, or each of "
        "two takes one actor's, and their gradients are summed. The sum is that of the joint batch to "
        "rounding (tests/learner/test_loop_of_ranks.py); what differs through Ray is which rollouts meet in "
        "a batch, and how old the weights are that acted. A difference in learning would say that ranks do "
        "not do what one learner does."
    ),
    arms={
        "one": Arm(preset="memory_rtrl", overrides=THROUGH_RAY),
        "two": Arm(preset="memory_rtrl", overrides=f"{THROUGH_RAY} --num-learners 2"),
    },
    total_steps=120_000,
    seeds=(0, 1, 2),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
