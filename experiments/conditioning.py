"""What the experiments on trace conditioning share: the task, its measure, and cores of about equal size.

Task and constants are those of Rafiee et al. 2023 (envs/suites/memory/trace_conditioning.py) with an interval
of 7 to 13 steps and 10 distractors, discounting 0.9; what the trace units' paper itself used is not known.
There is one action, so that V-trace is TD(lambda) and the policy has nothing to learn. The input is the
observation alone.
"""

from __future__ import annotations

from typing import Any

from configs.env import MemoryConfig
from envs.suites.memory.trace_conditioning import TraceConditioning
from experiments.catalogue import Arm, Experiment

STREAMS, UNROLL = 32, 5
EVALUATED = 16
"""Streams of an evaluation: about 730 trials."""
INPUTS = 12
DISCOUNTING = 0.9
TOTAL_STEPS = 120_000
PILOT_SEEDS = (100, 101, 102)
"""On which learning rates were chosen, apart from the seeds that count."""
RATES = (3e-3, 1e-2, 3e-2, 1e-1)
"""The same for every arm of an experiment."""

_TASK = TraceConditioning(MemoryConfig(), 1)
OPTIMAL = round(_TASK.optimal_msre(DISCOUNTING), 5)
MEMORYLESS = round(_TASK.memoryless_msre(DISCOUNTING), 5)
SOLVED = round(OPTIMAL + 0.1 * (MEMORYLESS - OPTIMAL), 5)
"""Nine tenths of what a memory is worth."""

SIZES = {
    "rtu": 40,
    "linear_rtu": 40,
    "lru": 17,
    "block_diagonal": 37,
    "elstm": 18,
    "mingru": 40,
    "indylstm": 19,
    "gru": 13,
}
"""hidden_size that gives the core about 1,040 parameters, readout and output gate included."""
FORGET_BIAS = {"elstm": 2.0, "mingru": 2.0, "indylstm": 2.0, "gru": 2.0}
"""The memory presets'. The rotations start as in their papers: r^2 uniform in [0, 1]."""


def task(unroll: int = UNROLL) -> str:
    """Evaluations are of 16 streams of 5,000 steps; the last is at the end, by the last weights."""
    return (
        f"--env.id memory/trace_conditioning --env.memory.episode-steps 5000 --num-streams {STREAMS} "
        f"--batch-size {STREAMS} --unroll-length {unroll} --grad-norm-clipping {unroll * STREAMS} "
        f"--discounting {DISCOUNTING} --lambda_ 0.9 --entropy-cost 0 --policy.no-previous-reward "
        f"--eval.interval-steps {TOTAL_STEPS} --eval.episodes {EVALUATED}"
    )


def core(name: str, hidden_size: int | None = None) -> str:
    size = SIZES[name] if hidden_size is None else hidden_size
    bias = FORGET_BIAS.get(name, 0.0)
    return f"--policy.core {name} --policy.hidden-size {size} --policy.forget-bias {bias:g}"


ARMS: dict[str, tuple[str, str, int]] = {
    **{name: (name, "rtrl", UNROLL) for name in SIZES if name != "gru"},
    **{f"{name}_tbptt_{T}": (name, "tbptt", T) for name in ("rtu", "lru", "gru") for T in (5, 20)},
}
"""Core, credit and unroll of each arm of `trace_conditioning`, at equal parameters."""
OPERATIONS = 8448.0
"""Of an agent step of `rtu` by RTRL at its size above (experiments/costs.py)."""
SIZES_BY_OPERATIONS = {
    "rtu": 40,
    "linear_rtu": 52,
    "lru": 21,
    "block_diagonal": 40,
    "elstm": 23,
    "mingru": 55,
    "indylstm": 20,
    **{f"rtu_tbptt_{T}": 88 for T in (5, 20)},
    **{f"lru_tbptt_{T}": 23 for T in (5, 20)},
    **{f"gru_tbptt_{T}": 18 for T in (5, 20)},
}
"""hidden_size of each arm of `trace_conditioning_operations`, whose agent step takes about as many."""
RATE: dict[str, float] = {
    "rtu": 3e-2,
    "linear_rtu": 3e-2,
    "lru": 1e-2,
    "block_diagonal": 3e-2,
    "elstm": 1e-1,
    "mingru": 3e-2,
    "indylstm": 1e-1,
    "rtu_tbptt_5": 1e-2,
    "rtu_tbptt_20": 3e-2,
    "lru_tbptt_5": 3e-2,
    "lru_tbptt_20": 1e-1,
    "gru_tbptt_5": 3e-2,
    "gru_tbptt_20": 1e-1,
}
"""The best of RATES by the mean of PILOT_SEEDS (experiments/results/trace_conditioning_pilot)."""


def arm(
    name: str,
    credit: str,
    unroll: int,
    rate: float,
    *,
    size: int | None = None,
    more: str = "",
    **sweep: Any,
) -> Arm:
    """A run with the core `name`. `credit`: rtrl, tbptt or immediate; `more`: of the command line."""
    preset = "memory_tbptt" if credit == "tbptt" else "memory_rtrl"
    words = [task(unroll), core(name, size), f"--learning-rate {rate:g}"]
    words += ["--credit immediate"] * (credit == "immediate") + [more] * bool(more)
    return Arm(preset=preset, overrides=" ".join(words), **sweep)


def experiment(name: str, description: str, arms: dict[str, Arm], **more: Any) -> Experiment:
    """One that is measured by the squared return error of the last weights."""
    return Experiment(
        name=name,
        description=description,
        arms=arms,
        total_steps=TOTAL_STEPS,
        metric="MSRE",
        reads="eval/return_error",
        lower_is_better=True,
        chance=MEMORYLESS,
        best=OPTIMAL,
        solved=SOLVED,
        digits=4,
        **more,
    )
