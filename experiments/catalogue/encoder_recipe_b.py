"""The T-maze with an encoder that learns below the core, and a way past it: task B."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.catalogue.encoder_recipe import ENCODER
from experiments.catalogue.tmaze_b import TASK
from experiments.tmaze import CHANCE, SOLVED, encoder_arms, success

EXPERIMENT = Experiment(
    name="encoder_recipe_b",
    description="encoder_recipe on task B: twice as long, in unrolls of 10 (tmaze_b).",
    arms=encoder_arms(ENCODER, TASK),
    total_steps=600_000,
    seeds=tuple(range(220, 230)),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
