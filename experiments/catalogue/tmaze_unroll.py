"""The T-maze at unrolls of 1 to 44 steps: where do RTRL and TBPTT meet?"""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, both, success, unroll

EXPERIMENT = Experiment(
    name="tmaze_unroll",
    description=(
        "The task of tmaze, an episode of 22 steps, at unroll lengths from 1 to 44 and a budget that is "
        "large enough for TBPTT to solve it where it can see cue and choice at once. Streams begin at "
        "random phases, so that at 22 few unrolls hold a whole episode; TBPTT's success there need not "
        "come from a gradient that reaches the cue, it can also learn to gate the noise and use what was "
        "written at random."
    ),
    common=bias(2.0),
    arms={
        name: arm
        for length in (1, 2, 5, 10, 16, 22, 33, 44)
        for name, arm in both(f"T{length}", length, unroll(length)).items()
    },
    total_steps=1_000_000,
    seeds=(0, 1, 2),
    plot="sweep",
    x_label="unroll length (an episode is 22 steps)",
    log_x=True,
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
