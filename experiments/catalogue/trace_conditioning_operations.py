"""Trace conditioning: every cell at equal floating-point operations a step."""

from __future__ import annotations

from experiments.conditioning import ARMS, RATE, SIZES_BY_OPERATIONS, arm, experiment

EXPERIMENT = experiment(
    "trace_conditioning_operations",
    (
        "The arms of trace_conditioning, each as wide as the operations of the trace units' agent step by "
        "RTRL allow it to be: of matrix products, forward and backward, the trace's among them "
        "(experiments/costs.py). A cell that is trained by TBPTT, or that stores half of its trace, is "
        "wider. Learning rates are those of trace_conditioning."
    ),
    {name: arm(*ARMS[name], RATE[name], size=SIZES_BY_OPERATIONS[name]) for name in ARMS},
    seeds=tuple(range(10)),
)
