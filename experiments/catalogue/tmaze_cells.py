"""The T-maze of `tmaze`, by every cell that exact RTRL trains, beside TBPTT with the same settings."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment
from experiments.tmaze import CHANCE, SOLVED, bias, success


def _rotating(core: str, hidden_size: int, learning_rate: str, **rotation: str | float) -> str:
    options = {"r-min": 0.97} | {name.replace("_", "-"): value for name, value in rotation.items()}
    words = [f"--policy.rotation.{name} {value}" for name, value in options.items()]
    return (
        f"--policy.core {core} --policy.forget-bias 0 --policy.hidden-size {hidden_size} "
        f"--learning-rate {learning_rate} {' '.join(words)}"
    )


CELLS = {
    "elstm": "",
    "mingru": "--policy.core mingru",
    "indylstm": "--policy.core indylstm",
    "linear_rtu": _rotating("linear_rtu", 16, "1e-2", activation="linear"),
    "lru": _rotating("lru", 32, "3e-3"),
    "block_diagonal": _rotating("block_diagonal", 16, "3e-3"),
    "rtu_tanh": _rotating("rtu", 64, "1e-2", activation="tanh"),
    "rtu_relu": _rotating("rtu", 64, "1e-2", activation="relu", max_phase=0.5),
}

EXPERIMENT = Experiment(
    name="tmaze_cells",
    description=(
        "A cue, ten steps of noise in the cue's own channels, ten quiet steps, then the choice, in "
        "unrolls of 5: every cell that exact RTRL trains, and the same cell with the same settings by "
        "TBPTT. 32 outputs (rtu: 128). Settings were chosen on seed 0 before the seeds that count, "
        "learning rate from 1e-3, 3e-3, 1e-2, r_min from 0.9 and 0.97, for rtu also 16, 32 and 64 units "
        "and max_phase 0.1, 0.5 and 2 pi. A cell without a gate cannot shut the noise out: it has to tell "
        "the cue from it by when it came, and so needs units of several speeds. With the ReLU inside, a "
        "unit forgets as soon as it has turned to the negative side. The question is whether each cell "
        "carries exact credit over unroll boundaries, not which is best: none was tuned further."
    ),
    common=bias(2.0),
    arms={
        f"{cell}_{variant}": Arm(preset=f"memory_{variant}", overrides=overrides)
        for variant in ("rtrl", "tbptt")
        for cell, overrides in CELLS.items()
    },
    total_steps=300_000,
    seeds=tuple(range(200, 210)),
    metric="success",
    of_return=success,
    chance=CHANCE,
    solved=SOLVED,
)
