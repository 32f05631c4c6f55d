"""The T-maze with TBPTT at its best: unrolls as long as the episode, and twice as long."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, success, unroll

FASTER = "--learning-rate 6e-3"
"""Twice the preset's, for four to nine times fewer updates; chosen on seed 11."""

EXPERIMENT = Experiment(
    name="tmaze_fair",
    description=(
        "What TBPTT needs to solve the task of tmaze: unrolls of 22 steps, an episode's length, or of 44, "
        "at a budget that is large enough for them, since a longer unroll means fewer updates from the "
        "same steps. RTRL at an unroll of 5 is there to compare with, and RTRL at 44 to tell the unroll "
        "length from the way of computing the gradient. The claim of tmaze is worth as much as the price "
        "of the longer unroll: memory that grows with it, and actions that are learned from later."
    ),
    common=bias(2.0),
    arms={
        "rtrl": Arm(preset="memory_rtrl"),
        "rtrl_44": Arm(preset="memory_rtrl", overrides=unroll(44)),
        "tbptt": Arm(preset="memory_tbptt"),
        "tbptt_22": Arm(preset="memory_tbptt", overrides=unroll(22)),
        "tbptt_44": Arm(preset="memory_tbptt", overrides=unroll(44)),
        "tbptt_22_fast": Arm(preset="memory_tbptt", overrides=f"{unroll(22)} {FASTER}"),
        "tbptt_44_fast": Arm(preset="memory_tbptt", overrides=f"{unroll(44)} {FASTER}"),
    },
    total_steps=1_000_000,
    seeds=(0, 1, 2),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
