"""Trace units: five places of the non-linearity."""

from __future__ import annotations

from experiments.conditioning import RATE, arm, experiment

SIZES = (5, 10, 20, 40)
PLACES = {
    "linear": ("linear_rtu", "--policy.rotation.activation linear"),
    "linear_then_relu": ("linear_rtu", ""),
    "relu_inside": ("rtu", ""),
    "linear_projection_relu": ("linear_rtu", "--policy.rotation.projection"),
    "linear_projection": (
        "linear_rtu",
        "--policy.rotation.projection --policy.rotation.activation linear",
    ),
}

EXPERIMENT = experiment(
    "rtu_architectures",
    (
        "The ablation of arXiv 2409.01449: a linear recurrence, one with a ReLU behind it (linear_rtu), a "
        "ReLU inside the recurrence (rtu), and a linear one with a learned square matrix behind it, with a "
        "ReLU and without. By exact RTRL at an unroll of 5. The projection adds (2 n)^2 parameters at n "
        "units: sizes are not equal in parameters. Learning rates are rtu's and linear_rtu's of "
        "trace_conditioning."
    ),
    {
        f"{place}_{n}": arm(name, "rtrl", 5, RATE[name], size=n, more=more, series=place, x=n)
        for n in SIZES
        for place, (name, more) in PLACES.items()
    },
    seeds=tuple(range(10)),
    plot="sweep",
    x_label="complex units n",
    log_x=True,
)
