"""What the T-maze experiments share: the task and its measure, as command lines of the memory presets."""

from __future__ import annotations

import math

from configs.memory import STREAMS
from experiments.catalogue import Arm

CHANCE = 0.5
"""Success of every policy that sees the junction alone; there are two cues."""
SOLVED = 0.95


PIXELS = "--env.id memory/tmaze_pixels --policy.encoder shallow --policy.features 32"
"""The task drawn, and IMPALA's small network of convolutions below the core."""


def success(mean_return: float) -> float:
    """Share of games won, where a game returns +1 or -1."""
    return (mean_return + 1.0) / 2.0


def corridor(length: int, quiet: int) -> str:
    return f"--env.memory.length-min {length} --env.memory.length-max {length} --env.memory.quiet {quiet}"


def unroll(length: int) -> str:
    """Gradient clipping grows along, since the loss is a sum over T * B steps."""
    return f"--unroll-length {length} --grad-norm-clipping {length * STREAMS}"


def through_ray(actors: int) -> str:
    """A later option wins, so the runner's `--runtime inline` does not count."""
    return f"--runtime ray --num-actors {actors}"


def bias(forget_bias: float) -> str:
    return f"--policy.forget-bias {forget_bias:g}"


def scaled_bias(length: int) -> float:
    """ln L - 1: a unit at the start forgets over a time that grows with the corridor; 2 for 20 steps."""
    return round(math.log(length) - 1.0, 2)


def both(name: str, x: float, overrides: str, total_steps: int | None = None) -> dict[str, Arm]:
    """One point of a sweep, by RTRL and by TBPTT."""
    return {
        f"{variant}_{name}": Arm(
            preset=f"memory_{variant}",
            overrides=overrides,
            total_steps=total_steps,
            series=variant,
            x=x,
        )
        for variant in ("rtrl", "tbptt")
    }


def encoder_arms(encoder: str, task: str = "") -> dict[str, Arm]:
    """With an encoder below the core and a way past it, and what to compare that with."""
    settings = {
        "rtrl_no_encoder": ("rtrl", ""),
        "rtrl_bypass": ("rtrl", f"{encoder} --policy.bypass"),
        "rtrl": ("rtrl", encoder),
        "tbptt_bypass": ("tbptt", f"{encoder} --policy.bypass"),
        "rtrl_frozen": ("rtrl", f"{encoder} --policy.freeze-encoder"),
    }
    return {
        name: Arm(preset=f"memory_{variant}", overrides=f"{task} {overrides}".strip())
        for name, (variant, overrides) in settings.items()
    }
