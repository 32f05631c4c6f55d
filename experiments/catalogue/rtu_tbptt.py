"""Trace units: TBPTT approaches RTRL as the unroll grows; and how far credit of one step gets."""

from __future__ import annotations

from experiments.conditioning import RATE, arm, experiment

UNROLLS = (2, 5, 10, 20, 40)
RMSPROP = "--optimizer rmsprop --epsilon 1e-8"

EXPERIMENT = experiment(
    "rtu_tbptt",
    (
        "The non-linear trace unit by RTRL and by TBPTT at the same unrolls, so that what an unroll changes "
        "besides credit (fewer updates, longer lambda-returns) is the same for both: where the two meet, "
        "the unroll reaches as far as credit is worth. `immediate` lets no derivative through the state at "
        "all (arXiv 2603.28750 claims that with RMSprop it does as well as RTRL): with Adam, and with "
        "RMSprop beside RTRL with RMSprop. One learning rate for all, that of RTRL at an unroll of 5."
    ),
    {
        f"{series}_{T}": arm("rtu", credit, T, RATE["rtu"], more=more, series=series, x=T)
        for T in UNROLLS
        for series, credit, more in (
            ("rtrl", "rtrl", ""),
            ("tbptt", "tbptt", ""),
            ("immediate", "immediate", ""),
            ("rtrl_rmsprop", "rtrl", RMSPROP),
            ("immediate_rmsprop", "immediate", RMSPROP),
        )
    },
    seeds=tuple(range(10)),
    plot="sweep",
    x_label="unroll length T",
    log_x=True,
)
