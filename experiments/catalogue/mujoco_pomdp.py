"""MuJoCo's bodies with their velocities hidden, beside the same learner that sees them."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment

BODIES = {
    "inverted_pendulum": ("InvertedPendulum-v5", 500_000),
    "inverted_double_pendulum": ("InvertedDoublePendulum-v5", 1_000_000),
    "hopper": ("Hopper-v5", 2_000_000),
    "half_cheetah": ("HalfCheetah-v5", 5_000_000),
    "walker2d": ("Walker2d-v5", 5_000_000),
    "ant": ("Ant-v5", 5_000_000),
}
"""Body to the id that shows everything, and agent steps."""
RTU = "--policy.core rtu --policy.hidden-size 64 --policy.forget-bias 0"
CORES: dict[str, tuple[str, str]] = {
    "rtu": ("rtrl", RTU),
    "elstm": ("rtrl", ""),
    "rtu_tbptt": ("tbptt", RTU),
    "gru_tbptt": ("tbptt", "--policy.core gru --policy.forget-bias 0"),
    "lstm_tbptt": ("lstm", ""),
    "no_memory": ("feedforward", ""),
}
"""Arm to the last part of a preset's name, and what makes it this core's: 128 outputs each."""


WORDS = {"inverted_double_pendulum": "--learning-rate 1e-3"}
"""What a body asks for beside the presets' settings, for all its arms."""


def _arms(body: str) -> dict[str, Arm]:
    """Of each core, `p`: positions alone; `full`: positions and velocities."""
    gym_id, steps = BODIES[body]
    more = WORDS.get(body, "")
    return {
        f"{body}_{shown}_{core}": Arm(
            preset=f"mujoco_{body}_p_{variant}",
            overrides=" ".join(filter(None, [words, more, f"--env.id {gym_id}" * (shown == "full")])),
            total_steps=steps,
        )
        for core, (variant, words) in CORES.items()
        for shown in ("p", "full")
    }


ARMS = {name: arm for body in BODIES for name, arm in _arms(body).items()}
EXPERIMENT = Experiment(
    name="mujoco_pomdp",
    description=(
        "Positions alone (`p`) against positions and velocities (`full`), by PPO with the settings of the "
        "presets for all arms alike, 128 outputs of the core: trace units and eLSTM by exact RTRL, trace "
        "units, GRU and LSTM by TBPTT over sub-chunks of 16 steps, and no memory. Settings were chosen on "
        "inverted_pendulum_p_rtu, by seeds 0 and 1; the double pendulum's learning rate, of 5e-4, 1e-3 "
        "and 2e-3, on inverted_double_pendulum_p_elstm, by seed 0 (2e-3 by seed 2, so that 3, 4 and 5 are "
        "the seeds that count there). The return is of sampled actions, in the last tenth of training, "
        "while the learning rate falls to 0. Without --arms, the inverted pendulum, whose longest episode "
        "pays 1000; the larger bodies are further arms."
    ),
    arms=ARMS,
    first=tuple(name for name in ARMS if name.startswith("inverted_pendulum_")),
    total_steps=500_000,
    seeds=(2, 3, 4),
    metric="return",
    chance=None,
    solved=900.0,
    digits=0,
)
