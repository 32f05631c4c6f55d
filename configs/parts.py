"""The branches of the config tree but for the environment's, each checked at construction.

`configs/schema.py` is the root, `configs/env.py` the environment's branch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from configs.control import GaussianConfig
from configs.core import Core, ForgetBias, RotationConfig, check_core, core_options
from configs.error import require

Encoder = Literal["auto", "none", "mlp", "shallow", "nature", "deep"]
Credit = Literal["rtrl", "tbptt", "immediate", "snap1"]
RewardClipping = Literal["abs_one", "soft_asymmetric", "none"]
Optimizer = Literal["rmsprop", "adam"]
Objective = Literal["vtrace", "ppo"]
Runtime = Literal["ray", "inline"]
Prefetch = Literal["auto", "on", "off"]
WandbMode = Literal["online", "offline", "disabled"]
MAX_SEED = 2**62
"""Streams are seeded by sums with it, and PyTorch takes 64 bits with a sign."""


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Encoder, recurrent core and heads."""

    encoder: Encoder = "mlp"
    """`auto` goes by what is observed: convolutions for images, by their size; `mlp` where there is none."""
    features: int = 256
    """Width of the encoder's output; the core input adds the clipped previous reward, if it is fed."""
    bypass: bool = False
    """The core reads a view of the observation that is never trained, and the heads read the encoder's
    features beside the core's output: every weight has its exact gradient (actors/policy/bypass.py)."""
    core: Core = "elstm"
    hidden_size: int = 256
    """Units N of the core (unused by core `none`); of a core that rotates, pairs of numbers."""
    forget_bias: ForgetBias = 0.0
    """Added at the start to the bias of the gate that keeps: the forget gate, of `gru` the update gate (the
    paper: 0). `spread`: from 0 to 8, evenly over the units, which then forget within 2 to 3,000 steps: for
    delays that are not known. Where the delay is, L steps, about ln L - 1 for all of them learns sooner. A
    core without such a gate leaves it aside."""
    rotation: RotationConfig = field(default_factory=RotationConfig)
    num_layers: int = 1
    """Layers of the core. One is exact under RTRL; a stack carries an exact trace for each layer alone, and
    its credit across layers reaches back to the start of the unroll only: an approximation."""
    normalise_observations: bool = False
    """Every measured number of the observations less its mean, over its standard deviation, clipped to
    [-10, 10]: running statistics of what was learned from, a part of the policy. Pictures, words, one-hots
    and bits stay as they are, but for MiniGrid's planes."""
    freeze_core: bool = False
    """A control: the recurrent weights stay as they began; encoder, output gate and heads learn."""
    freeze_encoder: bool = False
    """The encoder's weights stay as they began, or as load_encoder or load found them."""
    load_encoder: str | None = None
    """A run directory or a checkpoint whose encoder a new run starts from; it must have the same shape."""
    load: str | None = None
    """A run directory or a checkpoint whose whole policy a new run starts from: encoder, core and heads."""
    previous_action: bool = False
    """Feed the previous action to the core as one-hot (off in the paper)."""
    gaussian: GaussianConfig = field(default_factory=GaussianConfig)
    previous_reward: bool = True
    """Feed the previous reward to the core, clipped to [-1, 1]. Where the reward tells what the observation
    hides (a velocity, the distance to a goal), it makes another task."""

    def __post_init__(self) -> None:
        require(self.features >= 1, "policy.features", self.features, "needs at least 1")
        require(self.hidden_size >= 1, "policy.hidden_size", self.hidden_size, "needs at least 1")
        check_core(self.core, self.forget_bias, self.num_layers, self.rotation)
        require(
            not self.freeze_core or self.core != "none",
            "policy.freeze_core",
            self.freeze_core,
            "there is no core to freeze",
        )
        require(
            self.load is None or self.load_encoder is None,
            "policy.load_encoder",
            self.load_encoder,
            f"policy.load = {self.load!r} brings its own encoder: give one of the two",
        )
        for name in ("freeze_encoder", "load_encoder", "bypass"):
            require(
                not getattr(self, name) or self.encoder != "none",
                f"policy.{name}",
                getattr(self, name),
                "there is no encoder: policy.encoder is 'none'",
            )

    @property
    def core_options(self) -> dict[str, float | str]:
        """The settings of the core, besides its size."""
        return core_options(self.core, self.forget_bias, self.rotation)


@dataclass(frozen=True, kw_only=True)
class RtrlConfig:
    """How traces are carried under credit = "rtrl" and "snap1", and what is measured of them."""

    boundary: bool = True
    """False, a control: every unroll starts from zero traces, which leaves exactly TBPTT's gradient (of
    "snap1": SnAp-1's within the unroll)."""
    fresh_traces: bool = False
    """Recompute each stream's trace under the present weights from the last `history_rollouts` rollouts,
    instead of carrying it: no staleness, at several times the cost."""
    staleness_interval: int = 0
    """Updates between two measurements of rtrl/staleness_cos; 0: never."""
    history_rollouts: int = 8
    """Rollouts a stream that are kept to recompute traces from (fresh_traces, staleness_interval). Exact
    where they reach back to the episode's start."""
    max_trace_norm: float | None = None
    """Scales a stream's trace down to this norm after an unroll (rtrl/trace_clips counts it); None: never."""

    def __post_init__(self) -> None:
        require(
            self.staleness_interval >= 0, "rtrl.staleness_interval", self.staleness_interval, "at least 0"
        )
        require(self.history_rollouts >= 1, "rtrl.history_rollouts", self.history_rollouts, "at least 1")
        require(
            self.max_trace_norm is None or self.max_trace_norm > 0,
            "rtrl.max_trace_norm",
            self.max_trace_norm,
            "must be positive, or None for no bound",
        )
        require(
            self.boundary or not (self.fresh_traces or self.staleness_interval),
            "rtrl.boundary",
            self.boundary,
            "without the boundary term no trace is used: leave fresh_traces and staleness_interval off",
        )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluations: those while training goes on, logged as eval/*, and those of `launch.py eval`."""

    interval_steps: int = 0
    """Agent steps between two evaluations while training goes on; 0: none."""
    episodes: int = 20
    """Games of one evaluation: the same ones every time, and as many of each level."""
    greedy: bool = False
    """The most probable action instead of a sampled one."""
    held_out: bool = True
    """On the levels that the suite keeps from training, where it has some."""
    max_episode_steps: int = 108_000
    """Agent steps after which a game is cut off and counted as it stands: an env may never end one. Told
    where it happens."""

    def __post_init__(self) -> None:
        require(self.interval_steps >= 0, "eval.interval_steps", self.interval_steps, "cannot be negative")
        for name in ("episodes", "max_episode_steps"):
            require(getattr(self, name) >= 1, f"eval.{name}", getattr(self, name), "needs at least 1")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When learner state is written to `RUN_DIR/checkpoints`."""

    interval_s: float = 60.0
    interval_steps: int = 0
    """And no sooner than this many agent steps after the last. With a tiny interval_s this alone decides."""
    keep_last: int = 3

    def __post_init__(self) -> None:
        require(self.interval_s > 0, "checkpoint.interval_s", self.interval_s, "must be positive")
        steps = self.interval_steps
        require(steps >= 0, "checkpoint.interval_steps", steps, "cannot be negative")
        require(self.keep_last >= 1, "checkpoint.keep_last", self.keep_last, "keep at least 1")


@dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """Weights & Biases. `metrics.jsonl` is written whatever the mode. What is None is taken from W&B's own
    variables (docs/wandb.md)."""

    mode: WandbMode | None = None
    """None: WANDB_MODE, else offline."""
    project: str | None = None
    """None: WANDB_PROJECT, else evertrace."""
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    """None: WANDB_NAME, else the name of the run's folder."""
    log_checkpoint: bool = False
    """Keep the run's last checkpoint in W&B, as an artifact of type `model`."""

    def __post_init__(self) -> None:
        require(
            not self.log_checkpoint or self.mode != "disabled",
            "wandb.log_checkpoint",
            self.log_checkpoint,
            "needs W&B: wandb.mode is 'disabled'",
        )


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """The Ray runtime: where the actors live and how failures are met."""

    address: str | None = None
    """HOST:PORT of a running cluster's head, or `auto` (docs/cluster.md). None takes RAY_ADDRESS, if
    that is set; else Ray is started on this machine, bound to loopback."""
    object_store_mib: int = 0
    """Object store of a local Ray, in MiB; 0: what the rollouts in flight take (learner/memory.py)."""
    actor_gpus: float = 0.0
    """Of a GPU, the share that Ray lends an actor whose policy is on one (`actor_device`); 0: so much that
    all of them, and the learner on an only one, have their place (configs/layout.py)."""
    rollouts_in_flight: int = 2
    """Rollouts an actor may have asked for or finished that the learner has not taken (back-pressure)."""
    start_timeout_s: float = 600.0
    """An actor whose environments are not made and reset by then is killed and replaced. One for which no CPU
    of the cluster is free just waits; if nothing comes from any actor for so long meanwhile, the run ends."""
    rollout_timeout_s: float = 600.0
    """An actor that owes a rollout for longer is killed and replaced."""
    stall_report_s: float = 30.0
    """An actor that owes a rollout for longer is told by name, and what its processes do; and a learner to
    which nothing comes for longer tells why."""
    follow_cluster: bool = False
    """The number of actors follows the cluster: nodes that come get actors, the streams of nodes that go are
    carried by the others (actors/fleet/elastic.py). On the command line `--num-actors auto`."""
    settle_s: float = 30.0
    """So long a cluster must have had room for another number of actors before the run follows it."""
    learner_timeout_s: float = 600.0
    """A learner whose loop does not come round for so long, in one update say or one write to disk, is killed
    and started anew from the newest checkpoint."""
    max_learner_failures: int = 3
    """Failures of the learner, with no checkpoint written in passing between, after which the run ends."""
    max_consecutive_failures: int = 5
    """Failures in a row, without a rollout between, of every single actor, after which the run stops: the
    environment is broken. An actor that keeps failing beside others that work is restarted ever later."""
    max_failures_per_actor_hour: float = 12.0
    """Failures of all actors within the last hour, divided by their number, above which the run stops. One
    actor alone has 21 at most, since its restarts wait up to 300 s; a lost node is not counted."""

    @property
    def joined(self) -> str | None:
        """The cluster that is joined: `address`, or Ray's own RAY_ADDRESS, which `ray job submit` sets."""
        return self.address or os.environ.get("RAY_ADDRESS")

    def __post_init__(self) -> None:
        store = self.object_store_mib
        require(store == 0 or store >= 80, "ray.object_store_mib", store, "at least 80, or 0, which chooses")
        require(0 <= self.actor_gpus <= 1, "ray.actor_gpus", self.actor_gpus, "0, which chooses, to 1")
        require(self.rollouts_in_flight >= 1, "ray.rollouts_in_flight", self.rollouts_in_flight, "at least 1")
        timeouts = ("start_timeout_s", "rollout_timeout_s", "stall_report_s", "settle_s", "learner_timeout_s")
        for name in (*timeouts, "max_failures_per_actor_hour"):
            require(getattr(self, name) > 0, f"ray.{name}", getattr(self, name), "must be positive")
        for name in ("max_consecutive_failures", "max_learner_failures"):
            require(getattr(self, name) >= 1, f"ray.{name}", getattr(self, name), "at least 1")
