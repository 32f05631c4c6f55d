"""DeepMind Lab presets: `dmlab_<level>_{rtrl,tbptt,lstm,feedforward}`, with `_cpu` to try a level without a
GPU, and `dmlab30_...` for thirty at once.

A level's settings are those of arXiv 2305.19044: 48 streams, an engine each, T = 100, B = 32, IMPALA's deep
encoder on 72 x 96 pixels, N = 512, 9 actions held for 4 frames. In the paper the encoder of the two memory
levels comes from an earlier run by TBPTT (50 M steps of rooms_select_nonmatching_object, 200 M of
rooms_watermaze) and is frozen; here it learns, unless one is given:

    --policy.load-encoder RUN_DIR --policy.freeze-encoder
"""

from __future__ import annotations

import dataclasses

from configs.schema import Config, DmlabConfig, EnvConfig, PolicyConfig, RayConfig
from configs.variants import VARIANTS

PAPER_STEPS = {
    "rooms_select_nonmatching_object": 30_000_000,
    "rooms_watermaze": 100_000_000,
    "rooms_keys_doors_puzzle": 100_000_000,
}
"""Agent steps of the paper's runs, the earlier run of the encoder not counted."""
OTHER_STEPS = 250_000_000
"""10^9 frames, IMPALA's budget for a single level."""


def dmlab(level: str, variant: str) -> Config:
    """One level, or `memory_suite`; the language levels show their instructions. Whether the level exists is
    checked where the list of them is."""
    arm = VARIANTS[variant]
    extras = "INSTR" if level.startswith("language_") else ""
    return Config(
        preset=f"dmlab_{level}_{variant}",
        env=EnvConfig(id=f"dmlab/{level}", dmlab=DmlabConfig(extra_observations=extras)),
        policy=PolicyConfig(encoder="deep", core=arm["core"], hidden_size=512),
        credit=arm["credit"],
        unroll_length=100,
        total_steps=PAPER_STEPS.get(level, OTHER_STEPS),
    )


def dmlab_cpu(level: str, variant: str) -> Config:
    """To try a level: about five minutes on two cores, four engines, a small CNN. No level is learned in that
    time.

    Where the level compiles its maps, that is most of the time, unless they are few and kept:

        --env.dmlab.num-maps 8 --env.dmlab.level-cache DIR
    """
    arm = VARIANTS[variant]
    full = dmlab(level, variant)
    return dataclasses.replace(
        full,
        preset=f"{full.preset}_cpu",
        env=dataclasses.replace(
            full.env,
            # Both cores are busy, and memory is short.
            dmlab=dataclasses.replace(full.env.dmlab, reset_ahead=False),
        ),
        policy=PolicyConfig(encoder="shallow", core=arm["core"], hidden_size=128),
        ray=RayConfig(rollouts_in_flight=1),
        num_streams=4,
        unroll_length=50,
        batch_size=4,
        total_steps=100_000,
        time_limit_s=300.0,
        learner_threads=1,
        # As for Atari: too few updates for the paper's RMSprop at 6e-4 to change anything (docs/log.md).
        optimizer="adam",
        learning_rate=1e-3,
        epsilon=1e-5,
    )


def dmlab30(variant: str) -> Config:
    """All thirty levels by one policy, which reads their instructions: the settings that IMPALA's authors
    published with their code, for 150 streams, five a level.

    RMSprop's epsilon differs: 0.01 outside the square root, theirs is 0.1 inside. `env.dmlab.dataset_path`
    must be given.
    """
    arm = VARIANTS[variant]
    return Config(
        preset=f"dmlab30_{variant}",
        env=EnvConfig(id="dmlab/dmlab30", dmlab=DmlabConfig(extra_observations="INSTR")),
        policy=PolicyConfig(encoder="deep", core=arm["core"], hidden_size=256, previous_action=True),
        credit=arm["credit"],
        num_streams=150,
        unroll_length=100,
        total_steps=2_500_000_000,
        reward_clipping="soft_asymmetric",
        learning_rate=0.00031866995608948655,
        entropy_cost=0.0033391318945337044,
    )
