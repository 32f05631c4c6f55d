"""MiniGrid's memory rooms: does it go and look, and remember?"""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.far import arms

STEPS = {"s11": 2_000_000, "s13": 3_000_000, "s17_random": 3_000_000}
"""Room to agent steps. MiniGrid has no S17 but the one whose corridor has another length in each game."""
BYPASS = "--policy.encoder mlp --policy.features 64 --policy.bypass"
"""RTRL with an encoder that learns, and a way past it (encoder_recipe)."""

EXPERIMENT = Experiment(
    name="minigrid_memory",
    description=(
        "Rooms of 11, 13 and 17 squares whose object has to be found again at the end of a corridor, in "
        "unrolls of 20, observations normalised, without an encoder but in `bypass`. The agent begins "
        "somewhere between the object and the corridor's end, and faces the end: in a tenth of the games it "
        "sees the object at once, in the others it has to turn, or to go back, and look. Corridors end at "
        "square 8, 10 and, in the room of 17, 4 to 14, another in each game. A guess at the end has 0.5; "
        "what a policy without memory learns is an arm. (In a room of 7 such a policy looks back from the "
        "corridor's end, goes on by chance, and has 0.90: experiments/memory_suites.py.)"
    ),
    arms={
        name: arm
        for room, steps in STEPS.items()
        for name, arm in (
            arms(f"minigrid_memory_{room}", "", suffix=f"_{room}", total_steps=steps)
            | {
                f"feedforward_{room}": Arm(preset=f"minigrid_memory_{room}_feedforward", total_steps=steps),
                f"bypass_{room}": Arm(
                    preset=f"minigrid_memory_{room}_rtrl", overrides=BYPASS, total_steps=steps
                ),
            }
        ).items()
    },
    total_steps=STEPS["s17_random"],
    seeds=(100, 101, 102),
    metric="return",
    chance=None,
    solved=0.95,
)
