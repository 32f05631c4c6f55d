"""Breakout on two cores: does what helps a memory hurt where there is little to remember?"""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment

ARMS = {
    "rtrl": "--policy.forget-bias 0",
    "rtrl_spread": "--policy.forget-bias spread",
    "rtrl_bypass": "--policy.forget-bias 0 --policy.bypass",
    "rtrl_both": "--policy.forget-bias spread --policy.bypass",
}

EXPERIMENT = Experiment(
    name="breakout_core",
    description=(
        "The first 500,000 steps of the preset that `make train` runs, by exact RTRL: with forget biases at "
        "0, as in the eLSTM's paper, with forget biases spread over time constants, as the memory presets "
        "begin, with a way past the encoder (`policy.bypass`), and with both. It is asked whether these may "
        "be the start of the pixel presets: whether Breakout is learned no slower. It is early learning by a "
        "small network, not the game's end."
    ),
    common="--time-limit-s None",
    arms={
        name: Arm(preset="atari_breakout_rtrl_cpu", overrides=overrides) for name, overrides in ARMS.items()
    },
    total_steps=500_000,
    seeds=(0, 1, 2),
    metric="return",
    chance=1.0,
    solved=10.0,
)
