"""The settings of objective = "ppo", and what they ask of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from configs.error import require
from configs.parts import RtrlConfig


@dataclass(frozen=True, kw_only=True)
class PpoConfig:
    """Proximal policy optimisation (arXiv 1707.06347) over sub-chunks of a batch's unrolls. discounting,
    lambda_ (of GAE), baseline_cost, entropy_cost and reward_* are those of the run."""

    clip: float = 0.2
    """Of the ratio to the policy that acted: the surrogate is flat outside 1 +- clip."""
    value_clip: float | None = None
    """How far a value may move from the one before the epochs and still be drawn to its target; None: as far
    as it will."""
    epochs: int = 4
    """Times that each step of a batch is learned from."""
    minibatches: int = 4
    """Gradient steps an epoch."""
    chunk_length: int | None = None
    """Steps of a sub-chunk, which divide unroll_length; None: the whole unroll. A minibatch is made of
    sub-chunks of all columns. Credit within one is backpropagated; with RTRL a trace is kept of what came
    before each, unroll_length / chunk_length times batch_size traces in all."""
    normalise_advantages: bool = True
    """To mean 0 and deviation 1 over the valid steps of a minibatch."""
    targets: Literal["gae", "vtrace"] = "gae"
    """Of the values and the advantages: generalised advantage estimation, as if the present policy had
    acted, or V-trace, which corrects for weights that were older (clip_rho_threshold, clip_c_threshold)."""
    fresh_gradient: bool = False
    """The states and traces before the sub-chunks are computed anew at each epoch, under the weights of that
    moment; else they stay as before the first."""
    fresh_targets: bool = False
    """Values and advantages are computed anew at each epoch; else they stay as before the first."""

    def __post_init__(self) -> None:
        require(self.clip > 0, "ppo.clip", self.clip, "must be positive")
        clip = self.value_clip
        require(clip is None or clip > 0, "ppo.value_clip", clip, "must be positive, or None for no clip")
        for name in ("epochs", "minibatches"):
            require(getattr(self, name) >= 1, f"ppo.{name}", getattr(self, name), "needs at least 1")
        length = self.chunk_length
        require(length is None or length >= 1, "ppo.chunk_length", length, "at least 1, or None")

    def chunk_of(self, unroll_length: int) -> int:
        return unroll_length if self.chunk_length is None else self.chunk_length


def check_ppo(ppo: PpoConfig, rtrl: RtrlConfig, unroll_length: int, batch_size: int) -> None:
    """Of a run with objective = "ppo". Raises ConfigError for what does not go with it."""
    length = ppo.chunk_of(unroll_length)
    require(
        unroll_length % length == 0,
        "ppo.chunk_length",
        length,
        f"must divide unroll_length = {unroll_length}",
    )
    chunks = unroll_length // length * batch_size
    require(
        chunks % ppo.minibatches == 0,
        "ppo.minibatches",
        ppo.minibatches,
        f"must divide the batch's {chunks} sub-chunks (unroll_length / ppo.chunk_length * batch_size)",
    )
    require(
        rtrl.boundary,
        "rtrl.boundary",
        rtrl.boundary,
        "needs objective = 'vtrace'; with 'ppo' the gradient without boundary terms is credit = 'tbptt'",
    )
    require(
        rtrl.staleness_interval == 0,
        "rtrl.staleness_interval",
        rtrl.staleness_interval,
        "compares one gradient a batch, and 'ppo' takes several: needs objective = 'vtrace', or 0",
    )
