"""Which recurrent cores there are, what trains them, and which settings each of them has."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from configs.error import require

Core = Literal[
    "none",
    "lstm",
    "gru",
    "elstm",
    "mingru",
    "indylstm",
    "rtu",
    "linear_rtu",
    "lru",
    "block_diagonal",
    "felstm",
]
RTRL_CORES = ("elstm", "mingru", "indylstm", "rtu", "linear_rtu", "lru", "block_diagonal")
"""Trained by exact RTRL, by TBPTT, or with credit of one step. The others: by TBPTT alone."""
SNAP1_CORES = ("felstm",)
"""But for these: by SnAp-1 or TBPTT."""
ForgetBias = float | Literal["spread"]
"""Of the gate that keeps, at the start (kernels/cells/forget.py)."""
MAX_FORGET_BIAS = 100.0
"""Of either sign: a gate is shut or open for good long before."""
FORGET_GATE = ("lstm", "gru", "elstm", "mingru", "indylstm", "felstm")
_ROTATION = {
    "rtu": ("activation", "r_min", "r_max", "max_phase", "radius", "angle"),
    "linear_rtu": ("activation", "r_min", "r_max", "max_phase", "radius", "angle", "projection"),
    **dict.fromkeys(("lru", "block_diagonal"), ("r_min", "r_max", "max_phase")),
}


STARTS = ("r_min", "r_max", "max_phase")
"""Of a RotationConfig: where the weights begin."""
RECURRENCE = ("activation", "radius", "angle")
"""What the same weights mean."""


@dataclass(frozen=True, kw_only=True)
class RotationConfig:
    """Of cores whose units rotate and shrink two numbers: the trace units `rtu` and `linear_rtu` (arXiv
    2409.01449), `lru`, `block_diagonal`."""

    activation: Literal["relu", "tanh", "linear"] = "relu"
    """Inside the recurrence of `rtu`, behind that of `linear_rtu` (the paper: relu)."""
    r_min: float = 0.0
    r_max: float = 1.0
    """Radii at the start: r^2 is uniform between their squares. The paper's 0 and 1 make most units forget
    within two steps; a task of memory wants r_min near 1."""
    max_phase: float = 2.0 * math.pi
    """Angles at the start: uniform between 0 and this. A unit of `rtu` with ReLU forgets where it turns to
    the negative side, within pi / theta steps: a task of memory wants small angles there."""
    radius: Literal["exp_exp", "exp"] = "exp_exp"
    """Parameterisation of r: exp(-exp(nu)), or exp(-nu), which nothing keeps below 1."""
    angle: Literal["exp", "direct"] = "exp"
    """Of theta: exp(theta_log), or itself."""
    projection: bool = False
    """Of `linear_rtu`: a learned square matrix between state and activation, as in the paper's ablation."""

    def __post_init__(self) -> None:
        r_min, r_max = self.r_min, self.r_max
        require(0.0 <= r_min < 1.0, "policy.rotation.r_min", r_min, "needs at least 0, and less than 1")
        require(r_min < r_max <= 1.0, "policy.rotation.r_max", r_max, "needs more than r_min, and at most 1")
        name, limit = "policy.rotation.max_phase", 2.0 * math.pi
        require(0.0 < self.max_phase <= limit, name, self.max_phase, "needs more than 0, and at most 2 pi")


def carries_traces(credit: str) -> bool:
    """Whether the learner keeps sensitivities from unroll to unroll."""
    return credit in ("rtrl", "snap1")


def check_credit(credit: str, core: str) -> None:
    """Raises ConfigError where the core is not trained that way."""
    remedy = f"needs policy.core to be one of {', '.join(RTRL_CORES)}, not {core!r}; or set credit = 'tbptt'"
    if core in SNAP1_CORES:
        remedy = (
            f"{core!r} has full recurrent matrices, which exact RTRL cannot afford: set credit = 'snap1', "
            "approximate, or 'tbptt'"
        )
    elif credit == "snap1" and core in RTRL_CORES:
        remedy = f"on {core!r}, an element-wise cell, SnAp-1 is exact RTRL: set credit = 'rtrl'"
    elif credit == "snap1":
        remedy = f"needs policy.core to be {', '.join(SNAP1_CORES)}, not {core!r}; or set credit = 'tbptt'"
    trained = SNAP1_CORES if credit == "snap1" else RTRL_CORES
    require(credit == "tbptt" or core in trained, "credit", credit, remedy)


def check_core(core: str, forget_bias: ForgetBias, num_layers: int, rotation: RotationConfig) -> None:
    """Raises ConfigError for a setting that the core does not have."""
    require(
        forget_bias == "spread" or abs(forget_bias) <= MAX_FORGET_BIAS,
        "policy.forget_bias",
        forget_bias,
        f"needs 'spread', or a number between -{MAX_FORGET_BIAS:g} and {MAX_FORGET_BIAS:g}",
    )
    require(num_layers >= 1, "policy.num_layers", num_layers, "needs at least 1")
    require(
        num_layers == 1 or core != "none",
        "policy.num_layers",
        num_layers,
        "there is no core to stack: policy.core is 'none'; leave it at 1",
    )
    standard = RotationConfig()
    for field in fields(rotation):
        value = getattr(rotation, field.name)
        require(
            value == getattr(standard, field.name) or field.name in _ROTATION.get(core, ()),
            f"policy.rotation.{field.name}",
            value,
            f"cannot take effect with policy.core = {core!r}; leave it alone",
        )


def core_options(core: str, forget_bias: ForgetBias, rotation: RotationConfig) -> dict[str, float | str]:
    """The settings that `core` has, as `kernels.cells.make_core` takes them."""
    options: dict[str, float | str] = {name: getattr(rotation, name) for name in _ROTATION.get(core, ())}
    return options | ({"forget_bias": forget_bias} if core in FORGET_GATE else {})
