"""CartPole with velocities hidden, through Ray, with the options that keep cores busy."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.catalogue.tmaze_pipeline import options

EXPERIMENT = Experiment(
    name="cartpole_pipeline",
    description="As tmaze_pipeline, with 32 streams and unrolls of 64 steps.",
    arms=options("cartpole_rtrl"),
    total_steps=1_000_000,
    seeds=(0, 1, 2),
    metric="return",
    chance=None,
    best=500.0,
    solved=400.0,
    digits=0,
)
