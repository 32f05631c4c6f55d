"""A cue, 1,500 equal steps, a choice: the passive T-maze at the longest delay it has been put up at."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.far import arms, untold
from experiments.tmaze import CHANCE, SOLVED, corridor, success

LENGTH = 1500

EXPERIMENT = Experiment(
    name="passive_tmaze_1500",
    description=(
        "The T-maze with a corridor of 1,500 steps that show nothing, in unrolls of 20: 75 unrolls lie "
        "between the cue and the choice. In Ni et al. (NeurIPS 2023) a transformer that sees all 1,500 steps "
        "solves the passive T-maze of that length in 6,700 games. There the agent has to walk, too, which a "
        "policy without memory learns from a dense reward; here it moves on by itself, so that games are not "
        "to be compared one for one. The forget biases are spread: nothing is told of the delay. Chance is "
        "0.5. Shown is what is learned at this unroll: TBPTT needs one of 1,502 steps to see the cue."
    ),
    arms=arms("memory", f"{corridor(LENGTH, quiet=LENGTH)} {untold()}"),
    total_steps=5_000_000,
    seeds=tuple(range(100, 110)),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
