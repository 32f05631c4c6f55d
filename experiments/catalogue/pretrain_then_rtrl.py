"""The paper's own way with an encoder: trained by TBPTT, then frozen below a core that learns by RTRL."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment

HALF = 1_000_000
ENCODER = "--policy.encoder mlp --policy.features 64"
AFTER = f"{ENCODER} --policy.load-encoder {{before}} --policy.freeze-encoder"

EXPERIMENT = Experiment(
    name="pretrain_then_rtrl",
    description=(
        "MiniGrid MemoryS7 in unrolls of 20, a trained layer of 64 units below the core. tbptt_first trains "
        "all of it by TBPTT. From its encoder, frozen, and a new core, rtrl_after goes on by RTRL and "
        "tbptt_after by TBPTT; tbptt_on goes on with the whole policy. So arXiv 2305.19044 trained on DMLab. "
        "rtrl_bypass is what stands here instead: everything from the start by RTRL, with a way past the "
        "encoder, for as many steps as the two parts together."
    ),
    arms={
        "tbptt_first": Arm(preset="minigrid_memory_s7_tbptt", overrides=ENCODER, total_steps=HALF),
        "rtrl_after": Arm(
            preset="minigrid_memory_s7_rtrl", overrides=AFTER, after="tbptt_first", total_steps=HALF
        ),
        "tbptt_after": Arm(
            preset="minigrid_memory_s7_tbptt", overrides=AFTER, after="tbptt_first", total_steps=HALF
        ),
        "tbptt_on": Arm(
            preset="minigrid_memory_s7_tbptt",
            overrides=f"{ENCODER} --policy.load {{before}}",
            after="tbptt_first",
            total_steps=HALF,
        ),
        "rtrl_bypass": Arm(preset="minigrid_memory_s7_rtrl", overrides=f"{ENCODER} --policy.bypass"),
    },
    total_steps=2 * HALF,
    seeds=(0, 1, 2),
    metric="return",
    chance=0.5,
    solved=0.9,
)
