"""The T-maze through Ray, with the options that keep cores busy: does any of them change what is learned?"""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, success

THROUGH_RAY = "--runtime ray --num-actors 1"
"""A later option wins, so the runner's `--runtime inline` does not count."""
OPTIONS = {
    "plain": "--prefetch off",
    "groups": "--prefetch off --actor-groups 2",
    "prefetch": "--prefetch on",
    "published_by_four": "--prefetch off --publish-interval 4",
}


def options(preset: str) -> dict[str, Arm]:
    return {name: Arm(preset=preset, overrides=f"{THROUGH_RAY} {more}") for name, more in OPTIONS.items()}


EXPERIMENT = Experiment(
    name="tmaze_pipeline",
    description=(
        "One actor through Ray: as it is; its slots in two groups that take turns; the next batch made by a "
        "thread while the learner is at work; weights handed over at every fourth update alone. The first "
        "changes nothing but the order of work, the others let rollouts be older by an update, or by up to "
        "three. A difference in learning would say that they change more than that."
    ),
    common=bias(2.0),
    arms=options("memory_rtrl"),
    total_steps=120_000,
    seeds=(0, 1, 2),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
