"""Presets of the memory tasks: `memory_{rtrl,tbptt,lstm,feedforward}`, a T-maze solved in seconds on a CPU.

The cue is 20 steps away from the choice and an unroll is 5 steps long, so that nothing inside an unroll links
the two. Other tasks with small vector observations: `--env.id memory/copy`, `memory/chain`, `memory/act_now`
(with `--policy.previous-action`), `memory/endless_tmaze`, `cartpole/masked`, ...
"""

from __future__ import annotations

from configs.schema import Config, EnvConfig, PolicyConfig
from configs.variants import VARIANTS

UNROLL_LENGTH = 5
STREAMS = 16


def memory(variant: str) -> Config:
    """One actor in the learner's process: on-policy, and the same run every time from the same seed."""
    arm = VARIANTS[variant]
    return Config(
        preset=f"memory_{variant}",
        env=EnvConfig(id="memory/tmaze"),
        policy=PolicyConfig(
            encoder="none",
            core=arm["core"],
            hidden_size=32,
            # Units of several speeds, since the presets serve tasks of any delay (experiment unknown_delay).
            forget_bias="spread",
        ),
        runtime="inline",
        device="cpu",  # matrices this small are slower on a GPU
        credit=arm["credit"],
        num_streams=STREAMS,
        unroll_length=UNROLL_LENGTH,
        batch_size=STREAMS,
        total_steps=300_000,
        learner_threads=1,
        reward_clipping="none",
        optimizer="adam",
        learning_rate=3e-3,
        epsilon=1e-8,
        # The loss is a sum over T * B steps: this bounds the gradient of its mean by 1.
        grad_norm_clipping=float(UNROLL_LENGTH * STREAMS),
    )
