"""ProcGen presets: `procgen_<game>_{rtrl,tbptt,lstm,feedforward}`; with `_cpu`, for a machine without a GPU.

The full-size settings are those of arXiv 2305.19044, whose game is chaser: the hard distribution, levels 0 to
499 to train on, 48 streams, B = 32, IMPALA's deep encoder, N = 256, RMSprop 6e-4, 200 M agent steps. It
has T = 5, where RTRL beats TBPTT, and T = 50, where they are alike: `--unroll-length 5`. For the games that
hide what was seen: `--env.procgen.distribution-mode memory`.
"""

from __future__ import annotations

from configs.schema import Config, EnvConfig, PolicyConfig, ProcgenConfig, RayConfig
from configs.variants import VARIANTS


def procgen(game: str, variant: str) -> Config:
    """The paper's settings: a cluster or a large machine with a GPU."""
    arm = VARIANTS[variant]
    return Config(
        preset=f"procgen_{game}_{variant}",
        env=EnvConfig(id=f"procgen/{game}", procgen=ProcgenConfig(num_levels=500, distribution_mode="hard")),
        policy=PolicyConfig(encoder="deep", core=arm["core"], hidden_size=256),
        credit=arm["credit"],
    )


def procgen_cpu(game: str, variant: str) -> Config:
    """About five minutes on two cores: 32 streams, a small CNN, and the easy distribution's 200 levels."""
    arm = VARIANTS[variant]
    return Config(
        preset=f"procgen_{game}_{variant}_cpu",
        env=EnvConfig(
            id=f"procgen/{game}",
            procgen=ProcgenConfig(num_levels=200, distribution_mode="easy"),
        ),
        policy=PolicyConfig(encoder="shallow", core=arm["core"], hidden_size=128),
        ray=RayConfig(rollouts_in_flight=1),
        credit=arm["credit"],
        num_streams=32,
        unroll_length=20,
        batch_size=16,
        total_steps=700_000,
        time_limit_s=300.0,
        learner_threads=1,
        # As for Atari: some 2,000 updates are too few for the paper's RMSprop.
        optimizer="adam",
        learning_rate=1e-3,
        epsilon=1e-5,
    )
