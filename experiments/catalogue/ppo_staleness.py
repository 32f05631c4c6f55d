"""PPO with traces and targets that are stale or fresh, and how far each leaves the acting policy."""

from __future__ import annotations

from experiments.catalogue import Arm, Experiment

PPO = (
    "--objective ppo --policy.core rtu --policy.hidden-size 32 --policy.forget-bias 0 "
    "--unroll-length 128 --ppo.chunk-length 16 --ppo.epochs 4 --ppo.minibatches 8 --ppo.value-clip 0.2 "
    "--lambda_ 0.95 --entropy-cost 0 --learning-rate 3e-4 --grad-norm-clipping 0.5"
)

EXPERIMENT = Experiment(
    name="ppo_staleness",
    description=(
        "States and traces before each sub-chunk as they were before the first epoch (stale gradient), or "
        "computed anew at each epoch under the weights of that moment (fresh), and the same of values and "
        "advantages (targets): arXiv 2409.01449 has stale gradients ahead, by code whose fresh arm reads "
        "every observation twice. mujoco/InvertedPendulum-P, trace units by exact RTRL. ppo/approx_kl is "
        "the mean over training of the KL divergence from the acting policy."
    ),
    arms={
        f"{gradient}_gradient_{targets}_targets": Arm(
            preset="mujoco_inverted_pendulum_p_rtrl",
            overrides=PPO
            + " --ppo.fresh-gradient" * (gradient == "fresh")
            + " --ppo.fresh-targets" * (targets == "fresh"),
        )
        for gradient in ("stale", "fresh")
        for targets in ("stale", "fresh")
    },
    total_steps=500_000,
    seeds=tuple(range(10)),
    metric="return",
    chance=None,
    solved=900.0,
    digits=1,
    beside="ppo/approx_kl",
)
