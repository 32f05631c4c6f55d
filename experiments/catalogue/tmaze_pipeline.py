"""The T-maze through Ray, with the options that keep cores busy: does any of them change what is learned?"""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, success, through_ray

THROUGH_RAY = through_ray(1)
OPTIONS = {
    "plain": "--prefetch off",
    "prefetch": "--prefetch on",
    "published_by_four": "--prefetch off --publish-interval 4",
}


def options(preset: str) -> dict[str, Arm]:
    return {name: Arm(preset=preset, overrides=f"{THROUGH_RAY} {more}") for name, more in OPTIONS.items()}


EXPERIMENT = Experiment(
    name="tmaze_pipeline",
    description=(
        "One actor through Ray: as it is; the next batch made by a thread while the learner is at work; "
        "weights handed over at every fourth update alone. These let rollouts be older by an update, or by "
        "up to three; a difference in learning would say that they change more than that. Groups of slots "
        "are for suites whose envs run beside the actor, and refused here."
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
