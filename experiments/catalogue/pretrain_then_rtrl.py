"""The paper's own way with an encoder: trained by TBPTT, then frozen below a core that learns by RTRL."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, PIXELS, SOLVED, bias, corridor, success, unroll

STEPS = 300_000
BIAS = bias(2.0)
"""Of cores that are new; one that is loaded has its own."""
NEAR = f"{BIAS} {corridor(4, quiet=2)} {unroll(20)}"
"""An unroll that holds several games."""
AFTER = f"{BIAS} --policy.load-encoder {{before}} --policy.freeze-encoder"

EXPERIMENT = Experiment(
    name="pretrain_then_rtrl",
    description=(
        "The T-maze in 28 x 28 pixels (encoder_pixels). tbptt_first trains all of a policy by TBPTT where "
        "that reaches the cue: a corridor of 4 steps in unrolls of 20. The others learn task A, 20 steps in "
        "unrolls of 5: from its encoder, frozen, and a new core, rtrl_after by RTRL, tbptt_after by TBPTT; "
        "tbptt_on goes on with the whole policy. So arXiv 2305.19044 trained on DMLab. rtrl_bypass is what "
        "stands here instead: everything from the start by RTRL, with a way past the encoder, for as many "
        "steps as the two parts together."
    ),
    common=PIXELS,
    arms={
        "tbptt_first": Arm(preset="memory_tbptt", overrides=NEAR),
        "rtrl_after": Arm(preset="memory_rtrl", overrides=AFTER, after="tbptt_first"),
        "tbptt_after": Arm(preset="memory_tbptt", overrides=AFTER, after="tbptt_first"),
        "tbptt_on": Arm(preset="memory_tbptt", overrides="--policy.load {before}", after="tbptt_first"),
        "rtrl_bypass": Arm(preset="memory_rtrl", overrides=f"{BIAS} --policy.bypass", total_steps=2 * STEPS),
    },
    total_steps=STEPS,
    seeds=(0, 1, 2),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
