"""POPGym's RepeatFirst, hard: name the first card 832 times."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.far import arms

EXPERIMENT = Experiment(
    name="repeat_first_hard",
    description=(
        "The first card's suit is to be named at each of 832 steps, each time for 1/832 or -1/832, while "
        "other cards are shown, in unrolls of 10 and of 20. A return of 1 is perfect. Random naming has "
        "-0.5; a policy without memory but with the previous reward can try suits and keep the right one, "
        "and has more. Rewards are scaled so that a step's is as large as in the easy task of 52 steps; as "
        "they are, entropy outweighs them. The forget biases begin spread."
    ),
    common="--reward-scale 160 --policy.forget-bias spread",
    arms={
        name: arm
        for unroll in (10, 20)
        for name, arm in arms(
            "popgym_repeat_first_hard",
            f"--unroll-length {unroll} --grad-norm-clipping {unroll * 16}",
            suffix=f"_T{unroll}",
        ).items()
    },
    total_steps=2_000_000,
    seeds=(100, 101, 102),
    metric="return",
    chance=None,
    solved=0.95,
)
