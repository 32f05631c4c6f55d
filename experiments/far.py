"""What the experiments on far credit share: the arms, and wide batches that make games of a thousand steps
quick.

A network of 32 units spends its time in Python: 128 streams take little longer to step than 16. Adam's rate
is raised with the batch, as updates are fewer. Where noise has to be kept out of a memory, many small steps
learn what few large ones do not (docs/log.md).
"""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, success

ARMS = {
    "rtrl": ("rtrl", ""),
    "tbptt": ("tbptt", ""),
    "immediate": ("tbptt", "--credit immediate"),
    "lstm": ("lstm", ""),
}
"""Arm to the last part of a preset's name, and what makes it this arm."""


def untold(streams: int = 128, learning_rate: float = 1e-2, unroll: int = 20) -> str:
    """How delays are learned of which nothing is told. The bound of the gradient's norm grows with the batch,
    since the loss is a sum over T * B steps."""
    return (
        f"--num-streams {streams} --batch-size {streams} --unroll-length {unroll} "
        f"--grad-norm-clipping {unroll * streams} --learning-rate {learning_rate:g} "
        "--policy.forget-bias spread"
    )


def arms(
    preset: str, overrides: str, *, suffix: str = "", total_steps: int | None = None, x: float | None = None
) -> dict[str, Arm]:
    """The four arms at the same unroll, by presets `PRESET_rtrl`, ...; with `x`, as points of a sweep."""
    return {
        f"{name}{suffix}": Arm(
            preset=f"{preset}_{variant}",
            overrides=f"{overrides} {more}".strip(),
            total_steps=total_steps,
            series="" if x is None else name,
            x=x,
        )
        for name, (variant, more) in ARMS.items()
    }


def act_now(delay: int) -> Experiment:
    """`act_now_DELAY`: the reward of the first action comes with step `delay`."""
    return Experiment(
        name=f"act_now_{delay}",
        description=(
            f"The first of {delay} actions decides, and the last is paid, in unrolls of 20. Nothing shown in "
            "between tells the two actions apart, and all later actions are noise in the input that told the "
            "first. The return is cut at the unroll and handed on by the values, so that a value must "
            "remember the action: by exact RTRL it can. PufferLib's pull request 478 reports 50 % at 128 "
            "steps by backpropagation through 64, and calls it open."
        ),
        arms=arms(
            "memory",
            f"--env.id memory/act_now --env.memory.delay {delay - 1} --policy.previous-action "
            f"--discounting 1 {untold() if delay <= 128 else untold(32, 3e-3)}",
        ),
        total_steps=2_000_000 if delay <= 128 else 5_000_000,
        seeds=tuple(range(100, 110)),
        metric="success",
        of_return=success,
        chance=CHANCE,
        solved=SOLVED,
    )
