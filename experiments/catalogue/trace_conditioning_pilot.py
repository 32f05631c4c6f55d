"""Which learning rate each arm of trace_conditioning is given."""

from __future__ import annotations

from experiments.conditioning import ARMS, PILOT_SEEDS, RATES, arm, experiment

EXPERIMENT = experiment(
    "trace_conditioning_pilot",
    (
        "Every arm of trace_conditioning at the same learning rates, on seeds that count nowhere "
        "else. The rate with the least mean error is the arm's."
    ),
    {f"{name}_{rate:g}": arm(*ARMS[name], rate, series=name, x=rate) for name in ARMS for rate in RATES},
    seeds=PILOT_SEEDS,
    plot="sweep",
    x_label="learning rate",
    log_x=True,
)
