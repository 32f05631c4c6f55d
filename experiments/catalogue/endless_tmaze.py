"""The T-maze in which no episode ends: the memory has to be overwritten, not only kept."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.far import arms
from experiments.tmaze import CHANCE, SOLVED, success

EXPERIMENT = Experiment(
    name="endless_tmaze",
    description=(
        "The task of tmaze, 20 steps, half of them quiet, in unrolls of 5; but after the choice comes the "
        "next cue, and neither the state nor the trace is ever reset. A control: a trace that only "
        "accumulates, or a cell that cannot overwrite, would do on tasks whose episodes end."
    ),
    arms=arms("memory", "--env.id memory/endless_tmaze"),
    total_steps=600_000,
    seeds=tuple(range(100, 110)),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
