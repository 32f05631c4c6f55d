"""Trace conditioning: every cell by exact RTRL, and by TBPTT, at equal parameters."""

from __future__ import annotations

from experiments.conditioning import ARMS, RATE, arm, experiment

EXPERIMENT = experiment(
    "trace_conditioning",
    (
        "How well values foretell an outcome from a cue that is gone, by cells of about 1,040 parameters: "
        "by exact RTRL at an unroll of 5, which does not reach from the outcome back to the cue (7 to 13 "
        "steps), and by TBPTT at unrolls of 5 and of 20, which does; one of 20 means a quarter of the "
        "updates. Every arm has the best of the same learning rates on another seed "
        "(trace_conditioning_pilot). It shows what is learned from 120,000 steps, not where learning would "
        "end."
    ),
    {name: arm(*ARMS[name], RATE[name]) for name in ARMS},
    seeds=tuple(range(10)),
)
