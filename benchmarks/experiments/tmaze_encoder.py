"""The T-maze with an encoder that learns below the core."""

from __future__ import annotations

from benchmarks.experiments import Arm, Experiment
from benchmarks.tmaze import CHANCE, SOLVED, success, unroll

ENCODER = "--policy.encoder mlp --policy.features 32"

EXPERIMENT = Experiment(
    name="tmaze_encoder",
    description=(
        "RTRL is exact for the core; the encoder below it is trained by TBPTT inside the unroll, and as "
        "it drifts the core's traces grow stale. Observations go through two trained layers of 32 units "
        "instead of straight into the core, at an unroll of 5 and at one of 44, where TBPTT reaches the "
        "cue. Where the encoder costs RTRL its solution, this says so; it does not separate the two "
        "causes."
    ),
    arms={
        "rtrl": Arm(preset="memory_rtrl"),
        "rtrl_mlp": Arm(preset="memory_rtrl", overrides=ENCODER),
        "tbptt_mlp": Arm(preset="memory_tbptt", overrides=ENCODER),
        "rtrl_mlp_44": Arm(preset="memory_rtrl", overrides=f"{ENCODER} {unroll(44)}"),
        "tbptt_mlp_44": Arm(preset="memory_tbptt", overrides=f"{ENCODER} {unroll(44)}"),
    },
    total_steps=1_000_000,
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
