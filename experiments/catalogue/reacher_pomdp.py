"""Reacher whose goal is seen at the first step only."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.control import arms

EXPERIMENT = Experiment(
    name="reacher_pomdp",
    description=(
        "mujoco/Reacher-G: the goal is shown at an episode's first step and has to be remembered for 100 "
        "steps; the reward, which tells the distance, is not fed to the core. Cells by exact RTRL, trace "
        "units and a GRU by TBPTT, and a policy without memory, by the same settings, which were tuned for "
        "none. The return is minus the distance to the goal, added up, less the cost of the actions."
    ),
    arms=arms("mujoco_reacher_g"),
    total_steps=1_000_000,
    metric="return",
    chance=None,
    solved=-10.0,
    digits=1,
)
