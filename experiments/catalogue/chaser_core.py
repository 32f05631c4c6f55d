"""ProcGen's Chaser on two cores: as `breakout_core`, in a maze that is another one in each game."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.pixels import DESCRIPTION, arms

EXPERIMENT = Experiment(
    name="chaser_core",
    description=f"The first 500,000 steps of `procgen_chaser_rtrl_cpu`, 200 easy mazes: {DESCRIPTION}",
    common="--time-limit-s None",
    arms=arms("procgen_chaser_rtrl_cpu"),
    total_steps=500_000,
    seeds=(0, 1, 2),
    metric="return",
    chance=None,
    solved=5.0,
)
