"""MiniGrid's memory rooms, small to large."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.far import arms

STEPS = {"s7": 2_000_000, "s11": 4_000_000, "s13": 4_000_000}
"""Room to agent steps."""

EXPERIMENT = Experiment(
    name="minigrid_memory",
    description=(
        "Rooms of 7, 11 and 13 squares whose object has to be found again at the end of a corridor, in "
        "unrolls of 20, without an encoder. In S7 a policy without memory that looks back, and goes on by "
        "chance, has 0.90, memory 0.98 (experiments/memory_suites.py): a return of 0.95 needs memory there."
    ),
    arms={
        name: arm
        for room, steps in STEPS.items()
        for name, arm in arms(f"minigrid_memory_{room}", "", suffix=f"_{room}", total_steps=steps).items()
    },
    total_steps=STEPS["s13"],
    seeds=(100, 101, 102),
    metric="return",
    chance=None,
    solved=0.95,
)
