"""The T-maze without its quiet steps: what TBPTT does with many times the samples."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, corridor, success

EXPERIMENT = Experiment(
    name="tmaze_plain",
    description=(
        "The first version of the task, with noise all along the corridor, which is kept because it "
        "limits the claim of tmaze. Gates that learn inside an unroll to keep noise out work at every "
        "step of the corridor, the cue's own included, so that credit of five steps, or even of one, can "
        "be enough in the end: in 2 million steps TBPTT and immediate credit are expected to solve it on "
        "some seeds, the more the shorter the corridor. A policy that has solved it can also lose it "
        "again; the steps column counts first arrivals, the last tenth what remained."
    ),
    common=bias(2.0),
    arms={
        f"{name}_L{length}": Arm(
            preset=preset, overrides=f"{corridor(length, quiet=0)} {more}", series=name, x=length
        )
        for name, preset, more, lengths in (
            ("rtrl", "memory_rtrl", "", (10, 20)),
            ("tbptt", "memory_tbptt", "", (10, 20)),
            ("immediate", "memory_tbptt", "--credit immediate", (10,)),
        )
        for length in lengths
    },
    total_steps=2_000_000,
    seeds=(0, 1, 2),
    plot="sweep",
    x_label="steps between cue and choice, all of them noisy (unroll 5)",
    log_x=True,
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
