"""What the experiments on control share: the same run with one core after another.

Learned by the presets' settings for all cores alike, at 64 outputs of the core: nothing was tuned for any of
them.
"""

from __future__ import annotations

from experiments.catalogue import Arm

CORES: dict[str, tuple[str, str]] = {
    "rtu": ("rtrl", "--policy.core rtu --policy.hidden-size 32 --policy.forget-bias 0"),
    "linear_rtu": ("rtrl", "--policy.core linear_rtu --policy.hidden-size 32 --policy.forget-bias 0"),
    "lru": ("rtrl", "--policy.core lru --policy.hidden-size 64 --policy.forget-bias 0"),
    "elstm": ("rtrl", "--policy.core elstm"),
    "mingru": ("rtrl", "--policy.core mingru"),
    "rtu_tbptt": ("tbptt", "--policy.core rtu --policy.hidden-size 32 --policy.forget-bias 0"),
    "gru_tbptt": ("tbptt", "--policy.core gru"),
    "no_memory": ("feedforward", ""),
}
"""Arm to the last part of a preset's name, and what makes it this core's."""


def arms(preset: str, more: str = "") -> dict[str, Arm]:
    """Of every core, with the preset `preset` and more of its command line."""
    return {
        name: Arm(preset=f"{preset}_{variant}", overrides=f"{core} {more}".strip())
        for name, (variant, core) in CORES.items()
    }
