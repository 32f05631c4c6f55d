"""The T-maze at an unroll that is a quarter of the delay: who carries credit across the boundary?"""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, success

EXPERIMENT = Experiment(
    name="tmaze",
    description=(
        "A cue, ten steps of noise in the cue's own channels, ten quiet steps, then the choice: 22 steps, "
        "learned in unrolls of 5, by the same network from the same initial weights on the same budget. "
        "In an unroll of 11 steps or fewer no path leads from the reward to the cue or to a noisy step. "
        "What this compares is sample efficiency at a fixed unroll length: it does not show that TBPTT "
        "cannot solve the task. With an unroll as long as the episode it can (tmaze_fair), and with many "
        "times the samples it may at this unroll too. The quiet steps were added after TBPTT had been "
        "seen to solve the corridor without them in the end (tmaze_plain). Controls: credit of one step "
        "only (immediate), a core that does not learn (frozen_core), and RTRL without its boundary term, "
        "which has to be TBPTT (rtrl_no_boundary). The LSTM was not tuned: no ranking of it is meant."
    ),
    common=bias(2.0),
    arms={
        "rtrl": Arm(preset="memory_rtrl"),
        "tbptt": Arm(preset="memory_tbptt"),
        "lstm": Arm(preset="memory_lstm"),
        "immediate": Arm(preset="memory_tbptt", overrides="--credit immediate"),
        "frozen_core": Arm(preset="memory_tbptt", overrides="--policy.freeze-core"),
        "rtrl_no_boundary": Arm(preset="memory_rtrl", overrides="--rtrl.no-boundary"),
    },
    total_steps=300_000,
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
