"""The T-maze with actors whose weights are older and older."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, success, unroll

EXPERIMENT = Experiment(
    name="tmaze_lag",
    description=(
        "Weights reach the actors at every update, or at every 4th, 16th or 64th. Lag makes the data off- "
        "policy for every method, and RTRL's traces and states stale besides; TBPTT at an unroll of 44, "
        "which reaches the cue, is the control that tells the two apart, next to RTRL at the same unroll. "
        "An update at 44 takes nine times the steps of one at 5, so that equal lag in updates is a longer "
        "lag in steps there."
    ),
    common=bias(2.0),
    arms={
        f"{name}_lag{lag}": Arm(
            preset=preset, overrides=f"{more} --publish-interval {lag}", series=name, x=lag
        )
        for lag in (1, 4, 16, 64)
        for name, preset, more in (
            ("rtrl", "memory_rtrl", ""),
            ("rtrl_44", "memory_rtrl", unroll(44)),
            ("tbptt_44", "memory_tbptt", unroll(44)),
        )
    },
    total_steps=1_000_000,
    seeds=(0, 1, 2),
    plot="sweep",
    x_label="updates between two publications of weights",
    log_x=True,
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
