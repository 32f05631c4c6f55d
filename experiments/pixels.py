"""What the experiments on the pixel presets' start share."""

from __future__ import annotations

from experiments.catalogue import Arm

DESCRIPTION = (
    "with forget biases at 0, as in the eLSTM's paper, with forget biases spread over time constants, as the "
    "memory presets begin, with a way past the encoder (`policy.bypass`), and with both. It is asked whether "
    "these may be the start of the pixel presets: whether they learn no slower. It is early learning by a "
    "small network, not the game's end."
)
ARMS = {
    "rtrl": "--policy.forget-bias 0",
    "rtrl_spread": "--policy.forget-bias spread",
    "rtrl_bypass": "--policy.forget-bias 0 --policy.bypass",
    "rtrl_both": "--policy.forget-bias spread --policy.bypass",
}


def arms(preset: str) -> dict[str, Arm]:
    return {name: Arm(preset=preset, overrides=overrides) for name, overrides in ARMS.items()}
