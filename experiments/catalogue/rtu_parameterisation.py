"""Trace units: how sensitive each parameterisation of radius and angle is to the step size."""

from __future__ import annotations

from experiments.conditioning import arm, experiment

UNITS = 80
"""The paper's."""
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)

EXPERIMENT = experiment(
    "rtu_parameterisation",
    (
        "r = exp(-exp(nu)) or exp(-nu), and theta = exp(.) or itself, of 80 linear trace units by exact "
        "RTRL, at five learning rates of Adam. r = exp(-nu) may leave the unit circle: a run that does "
        "diverges, and ends with an error, which is counted as a failed run."
    ),
    {
        f"{radius}_{angle}_{rate:g}": arm(
            "linear_rtu",
            "rtrl",
            5,
            rate,
            size=UNITS,
            more=f"--policy.rotation.radius {radius} --policy.rotation.angle {angle}",
            series=f"{radius}, {angle}",
            x=rate,
        )
        for rate in RATES
        for radius in ("exp_exp", "exp")
        for angle in ("exp", "direct")
    },
    seeds=tuple(range(10)),
    plot="sweep",
    x_label="learning rate",
    log_x=True,
)
