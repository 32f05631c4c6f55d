"""Presets that fit any Gymnasium id: `gym_{rtrl,tbptt,lstm,feedforward} --env.id ID`.

The encoder goes by what the environment shows. The settings are CartPole's; what they cannot know is the size
of the rewards: a `reward_scale` that brings returns to a few units is the first thing to set.
"""

from __future__ import annotations

from configs.schema import Config, EnvConfig, PolicyConfig, RayConfig
from configs.variants import VARIANTS


def gym(variant: str) -> Config:
    """Two actors on two cores."""
    arm = VARIANTS[variant]
    return Config(
        preset=f"gym_{variant}",
        env=EnvConfig(id="CartPole-v1"),
        policy=PolicyConfig(
            encoder="auto",
            features=128,
            core=arm["core"],
            hidden_size=128,
            forget_bias=1.0,
        ),
        ray=RayConfig(rollouts_in_flight=1),
        credit=arm["credit"],
        num_streams=32,
        unroll_length=32,
        batch_size=32,
        total_steps=2_000_000,
        learner_threads=1,
        lambda_=0.95,
        reward_clipping="none",
        reward_scale=0.1,
        optimizer="adam",
        learning_rate=1e-3,
        epsilon=1e-5,
        grad_norm_clipping=160.0,
    )
