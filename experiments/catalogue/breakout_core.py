"""Breakout on two cores: does what helps a memory hurt where there is little to remember?"""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.pixels import DESCRIPTION, arms

EXPERIMENT = Experiment(
    name="breakout_core",
    description=f"The first 500,000 steps of the preset that `make train` runs, by exact RTRL: {DESCRIPTION}",
    common="--time-limit-s None",
    arms=arms("atari_breakout_rtrl_cpu"),
    total_steps=500_000,
    seeds=(0, 1, 2),
    metric="return",
    chance=1.0,
    solved=10.0,
)
