"""Breakout on two cores: does what helps a memory hurt where there is little to remember?"""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment

PRESET = "atari_breakout_rtrl_cpu"

EXPERIMENT = Experiment(
    name="breakout_core",
    description=(
        "The first 500,000 steps of the preset that `make train` runs, by exact RTRL: as it is (forget biases"
        " at 0, the encoder below the core), with forget biases spread over time constants as in the memory "
        "presets, and with a way past the encoder (`policy.bypass`). It is asked whether either may become "
        "the start of the pixel presets: whether Breakout learns no slower. It is early learning by a small "
        "network, not the game's end."
    ),
    common="--time-limit-s None",
    arms={
        "rtrl": Arm(preset=PRESET),
        "rtrl_spread": Arm(preset=PRESET, overrides="--policy.forget-bias spread"),
        "rtrl_bypass": Arm(preset=PRESET, overrides="--policy.bypass"),
    },
    total_steps=500_000,
    seeds=(0, 1, 2),
    metric="return",
    chance=1.0,
    solved=10.0,
)
