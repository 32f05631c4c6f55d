"""The T-maze with an encoder that learns below the core, and a way past it: task A."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, encoder_arms, success

ENCODER = "--policy.encoder mlp --policy.features 32"

EXPERIMENT = Experiment(
    name="encoder_recipe",
    description=(
        "Two trained layers of 32 units between observation and core, unroll 5, task A as in tmaze. With "
        "`policy.bypass` the core reads the observation past them, and the heads read their features beside "
        "the core's output. What is asked is that 19 of 20 seeds solve the task within twice the steps that "
        "they need without an encoder. By TBPTT the way past is there too, and credit for what it shows is "
        "not."
    ),
    common=bias(2.0),
    arms=encoder_arms(ENCODER),
    total_steps=300_000,
    seeds=tuple(range(200, 220)),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
