"""The T-maze with an encoder that learns below the core."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, success, unroll

ENCODER = "--policy.encoder mlp --policy.features 32"

EXPERIMENT = Experiment(
    name="tmaze_encoder",
    description=(
        "Observations go through two trained layers of 32 units instead of straight into the core. RTRL is "
        "exact for the core alone: the encoder's gradient is cut at the start of the unroll, and as the "
        "encoder moves, the core's traces grow stale. Three kinds of arm tell the two apart: with fresh "
        "traces (recomputed under the present weights) no staleness is left, and the encoder's gradient is "
        "as truncated as before; with a frozen encoder both are gone; with a tenth or a hundredth of the "
        "learning rate in the encoder both are less. At an unroll of 44 the encoder's gradient reaches the "
        "cue, but updates are nine times fewer."
    ),
    common=bias(2.0),
    arms={
        "rtrl_no_encoder": Arm(preset="memory_rtrl"),
        "rtrl": Arm(preset="memory_rtrl", overrides=ENCODER),
        "rtrl_fresh_traces": Arm(preset="memory_rtrl", overrides=f"{ENCODER} --rtrl.fresh-traces"),
        "rtrl_frozen_encoder": Arm(preset="memory_rtrl", overrides=f"{ENCODER} --policy.freeze-encoder"),
        "rtrl_slow_encoder": Arm(preset="memory_rtrl", overrides=f"{ENCODER} --encoder-lr-scale 0.1"),
        "rtrl_slower_encoder": Arm(preset="memory_rtrl", overrides=f"{ENCODER} --encoder-lr-scale 0.01"),
        "tbptt": Arm(preset="memory_tbptt", overrides=ENCODER),
        "rtrl_44": Arm(preset="memory_rtrl", overrides=f"{ENCODER} {unroll(44)}"),
        "tbptt_44": Arm(preset="memory_tbptt", overrides=f"{ENCODER} {unroll(44)}"),
    },
    total_steps=600_000,
    seeds=(0, 1, 2, 3),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
