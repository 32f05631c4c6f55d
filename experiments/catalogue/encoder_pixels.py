"""The T-maze seen as a small picture: convolutions that learn below the core, and a way past them."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.tmaze import CHANCE, PIXELS, SOLVED, bias, encoder_arms, success

EXPERIMENT = Experiment(
    name="encoder_pixels",
    description=(
        "Task A as in tmaze, drawn in 28 x 28 pixels, the cue as stripes (memory/tmaze_pixels), through "
        "IMPALA's small network of convolutions. With `policy.bypass` the core reads what fixed random "
        "filters see, and the heads read the trained features beside the core's output. There is no arm "
        "without an encoder: the core cannot read pixels."
    ),
    common=bias(2.0),
    arms={name: arm for name, arm in encoder_arms(PIXELS).items() if name != "rtrl_no_encoder"},
    total_steps=300_000,
    seeds=tuple(range(230, 240)),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
