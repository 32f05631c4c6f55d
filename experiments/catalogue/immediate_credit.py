"""Trace units: how far credit of one step gets, at a learning rate of its own."""

from __future__ import annotations

from experiments.catalogue.rtu_tbptt import RMSPROP
from experiments.conditioning import RATES, UNROLL, arm, experiment

EXPERIMENT = experiment(
    "immediate_credit",
    (
        "arXiv 2603.28750 claims that with RMSprop the immediate derivative, which goes through no state, "
        "does as well as RTRL. The non-linear trace unit by both, with Adam and with RMSprop, at an unroll "
        "of 5 and at each of the learning rates that all other arms were tuned over; none is chosen."
    ),
    {
        f"{credit}_{optimizer}_{rate:g}": arm(
            "rtu", credit, UNROLL, rate, more=more, series=f"{credit}, {optimizer}", x=rate
        )
        for credit in ("rtrl", "immediate")
        for optimizer, more in (("adam", ""), ("rmsprop", RMSPROP))
        for rate in RATES
    },
    seeds=tuple(range(10)),
    plot="sweep",
    x_label="learning rate",
    log_x=True,
)
