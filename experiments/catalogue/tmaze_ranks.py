"""The T-maze through Ray, learned by one learner and by two that share its streams and batches."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, success, through_ray

THROUGH_RAY = through_ray(2)


def one_and_two(preset: str) -> dict[str, Arm]:
    return {
        "one": Arm(preset=preset, overrides=THROUGH_RAY),
        "two": Arm(preset=preset, overrides=f"{THROUGH_RAY} --num-learners 2"),
    }


EXPERIMENT = Experiment(
    name="tmaze_ranks",
    description=(
        "Two actors of 8 streams each, and batches of 16 columns: one learner takes all of them, or each of "
        "two takes one actor's, and their gradients are summed. The sum is that of the joint batch to "
        "rounding (tests/learner/test_loop_of_ranks.py); what differs through Ray is which rollouts meet in "
        "a batch, and how old the weights are that acted. A difference in learning would say that ranks do "
        "not do what one learner does."
    ),
    common=bias(2.0),
    arms=one_and_two("memory_rtrl"),
    total_steps=120_000,
    seeds=(0, 1, 2),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
