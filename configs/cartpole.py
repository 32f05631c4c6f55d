"""CartPole presets for quick checks: `cartpole_{rtrl,tbptt,lstm,feedforward}`, velocities hidden.

Without velocities the pole can be held up only by a policy that remembers; a feedforward one
fails. `cartpole_full_feedforward` sees everything.
"""

from __future__ import annotations

from configs.schema import Config, EnvConfig, PolicyConfig, RayConfig
from configs.variants import VARIANTS


def cartpole(variant: str, env_id: str = "cartpole/masked") -> Config:
    """About a minute on two cores."""
    arm = VARIANTS[variant]
    return Config(
        preset=f"cartpole_{variant}",
        env=EnvConfig(id=env_id),
        policy=PolicyConfig(
            encoder="mlp",
            features=64,
            core=arm["core"],
            hidden_size=64,
            forget_bias=1.0,
        ),
        ray=RayConfig(rollouts_in_flight=1),
        credit=arm["credit"],
        num_streams=32,
        unroll_length=64,
        batch_size=32,
        total_steps=3_000_000,
        learner_threads=1,
        discounting=0.99,
        lambda_=0.95,
        baseline_cost=0.5,
        entropy_cost=0.01,
        reward_clipping="none",
        reward_scale=0.02,  # values of at most 2 instead of 100, which the heads would take long to reach
        optimizer="adam",
        learning_rate=2e-3,
        epsilon=1e-5,
    )
