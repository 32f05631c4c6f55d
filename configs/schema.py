"""The whole run in one typed tree.

Standard library only, so that `--help` and validation need neither torch nor ray. Every
dataclass is frozen and checked at construction: a bad value raises a ValueError that names the
field, the value, and the remedy. Names of IMPALA's hyper-parameters are kept verbatim.

Units: `*_steps` count agent steps (decisions), never emulator frames; `*_s` are seconds.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field

from configs.compute import ComputeConfig, Dtype, Tf32
from configs.core import Core, RotationConfig, carries_traces, check_credit
from configs.env import AtariConfig, DmlabConfig, EnvConfig, MemoryConfig, ProcgenConfig, VizdoomConfig
from configs.error import ConfigError, require
from configs.layout import check_layout
from configs.learners import check_learners
from configs.parts import (
    MAX_SEED,
    CheckpointConfig,
    Credit,
    Encoder,
    EvalConfig,
    Objective,
    Optimizer,
    PolicyConfig,
    Prefetch,
    RayConfig,
    RewardClipping,
    RtrlConfig,
    Runtime,
    WandbConfig,
    WandbMode,
)
from configs.ppo import PpoConfig, check_ppo
from configs.serial import build, leaves

__all__ = [
    "AtariConfig",
    "CheckpointConfig",
    "ComputeConfig",
    "Config",
    "ConfigError",
    "Core",
    "Credit",
    "DmlabConfig",
    "Dtype",
    "Encoder",
    "EnvConfig",
    "EvalConfig",
    "MemoryConfig",
    "Objective",
    "Optimizer",
    "PolicyConfig",
    "PpoConfig",
    "Prefetch",
    "ProcgenConfig",
    "RayConfig",
    "RewardClipping",
    "RotationConfig",
    "RtrlConfig",
    "Runtime",
    "Tf32",
    "VizdoomConfig",
    "WandbConfig",
    "WandbMode",
]


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run, complete: everything that decides its course, and nothing else."""

    preset: str = "custom"
    """The preset that this config began as (a label; presets are functions in configs/presets)."""
    env: EnvConfig
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    rtrl: RtrlConfig = field(default_factory=RtrlConfig)
    ppo: PpoConfig = field(default_factory=PpoConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    seed: int = 1
    run_dir: str | None = None
    """Where the run keeps its files; None: a new folder `runs/PRESET/TIME-seedN`."""
    runtime: Runtime = "ray"
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, ..."""
    num_learners: int = 1
    """Processes that learn, through Ray, each from a part of the streams, on a GPU of its own."""
    learner_threads: int = 0
    """CPU threads of a learner; 0: torch's default, which several learners share."""
    total_steps: int = 200_000_000
    """Agent steps, summed over all streams, after which the run ends; the learning rate falls to 0."""
    time_limit_s: float | None = None
    """Ends the run after this wall time, if that comes before total_steps."""

    num_streams: int = 48
    """Env slots of all actors. One slot is one stream: what a recurrent state and a trace belong to."""
    num_actors: int = 0
    """How many actors carry the streams; 0: as many as suit the machine (configs/layout.py)."""
    actor_groups: int = 1
    """Groups of an actor's slots that take turns: the envs of one run while the other is acted on. For suites
    whose envs run beside the actor, in threads or processes, where these would stand still meanwhile. On
    cores that are busy anyway 2 gains nothing."""
    actor_device: str = "auto"
    """Where an actor's policy is: `cpu`; `cuda`, through Ray a GPU that it lends, inline also `cuda:1`, ...;
    `auto`: a GPU where there is one and the envs run beside their actor (configs/layout.py)."""
    unroll_length: int = 50
    """T: steps of a rollout."""
    batch_size: int = 32
    """B: rollout columns (streams) of one update, of all learners."""

    publish_interval: int = 1
    """Updates between two publications of weights: more is policy lag on purpose."""
    max_policy_lag: int | None = None
    """Rollouts acted by weights older than this many updates, when they could be learned from at the
    earliest, are dropped (and counted); None keeps all."""
    prefetch: Prefetch = "auto"
    """Through Ray: whether a thread makes the next batch while the learner is at work on the last one, which
    makes rollouts an update older. `on`, `off`; `auto`: on where the learner has a GPU."""

    objective: Objective = "vtrace"
    """`vtrace`: IMPALA's actor-critic, one gradient step a batch, of losses summed over it; `ppo`: several
    (ppo.*), of losses averaged over the part of the batch that each is of."""
    credit: Credit = "rtrl"
    """`rtrl`: exact RTRL of the core; `tbptt`: credit is cut at the unroll boundary; `immediate`, a control:
    credit of one step, no derivative through the state at all. `snap1`: SnAp-1, approximate RTRL, of `felstm`
    (kernels/cells/felstm/README.md). An element-wise core has the first three, any core `tbptt`."""
    discounting: float = 0.99
    baseline_cost: float = 0.5
    entropy_cost: float = 0.01
    normalise_rewards: bool = False
    """In the loss, rewards are divided by the running standard deviation of the discounted return, before
    they are clipped and scaled: returns of a deviation near `reward_scale`, whatever the environment pays.
    What the core reads as the previous reward stays raw."""
    reward_clipping: RewardClipping = "abs_one"
    """Of the reward in the loss; the wire and all reported returns stay raw. `abs_one`: to [-1, 1];
    `soft_asymmetric`: squashed to (-1.5, 5), losses at 0.3 of their size, as IMPALA's on DMLab-30."""
    reward_scale: float = 1.0
    """Of the clipped reward in the loss. Values near 1 are learned fastest: with rewards of 1 at every step
    they grow to 1 / (1 - discounting)."""
    clip_rho_threshold: float | None = 1.0
    """This one and the two below: of V-trace alone."""
    clip_pg_rho_threshold: float | None = 1.0
    clip_c_threshold: float | None = 1.0
    lambda_: float = 1.0
    """Of V-trace, of GAE with `ppo`: how far rewards reach back, against the values."""

    optimizer: Optimizer = "rmsprop"
    """`rmsprop` as in the papers, or `adam` (with betas 0.9 and 0.999)."""
    learning_rate: float = 6e-4
    """Falls linearly to 0 at total_steps."""
    encoder_lr_scale: float = 1.0
    """The encoder's learning rate, as a multiple of learning_rate."""
    alpha: float = 0.99
    """RMSprop: decay of the squared gradient."""
    epsilon: float = 0.01
    """Added to the root of the squared gradient's average (outside the square root)."""
    momentum: float = 0.0
    """RMSprop only."""
    grad_norm_clipping: float = 40.0

    log_interval_s: float = 2.0
    """Metrics are reduced and written at most this often."""
    log_interval_steps: int = 0
    """And no sooner than this many agent steps after the last time. With a tiny log_interval_s this alone
    decides, and the rows of two runs are at the same steps."""
    diagnostics_interval: int = 50
    """Updates between two measurements of the RTRL diagnostics (rtrl/*)."""

    def __post_init__(self) -> None:
        for name, value in leaves(self):
            finite = not isinstance(value, float) or math.isfinite(value)
            require(finite, name, value, "needs a finite number; what can be left out takes None")
        for name in (
            *("total_steps", "num_streams", "unroll_length", "batch_size"),
            *("diagnostics_interval", "publish_interval"),
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), "needs at least 1")
        for name in (
            "learning_rate",
            "encoder_lr_scale",
            "epsilon",
            "grad_norm_clipping",
            "log_interval_s",
            "reward_scale",
        ):
            require(getattr(self, name) > 0, name, getattr(self, name), "must be positive")
        for name in (
            *("baseline_cost", "entropy_cost", "momentum"),
            *("learner_threads", "num_actors", "seed", "log_interval_steps"),
        ):
            require(getattr(self, name) >= 0, name, getattr(self, name), "cannot be negative")
        require(self.seed <= MAX_SEED, "seed", self.seed, f"is more than {MAX_SEED}")
        for name in ("clip_rho_threshold", "clip_pg_rho_threshold", "clip_c_threshold"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, "must be positive, or None for no clip")
        require(
            self.max_policy_lag is None or self.max_policy_lag >= 1,
            "max_policy_lag",
            self.max_policy_lag,
            "at least 1, or None to keep every rollout",
        )
        require(
            self.max_policy_lag is None or self.max_policy_lag >= self.publish_interval - 1,
            "max_policy_lag",
            self.max_policy_lag,
            f"with publish_interval = {self.publish_interval} the weights that act grow older: every rollout "
            "would be dropped, and no weights published again; lower publish_interval",
        )
        require(0 <= self.discounting <= 1, "discounting", self.discounting, "lies in [0, 1]")
        require(0 <= self.lambda_ <= 1, "lambda_", self.lambda_, "lies in [0, 1]")
        require(0 < self.alpha < 1, "alpha", self.alpha, "lies in (0, 1)")
        require(
            self.time_limit_s is None or self.time_limit_s > 0,
            "time_limit_s",
            self.time_limit_s,
            "must be positive, or None for no limit",
        )
        require(
            self.optimizer == "rmsprop" or self.momentum == 0.0,
            "momentum",
            self.momentum,
            "has no effect with optimizer = 'adam'; set it to 0",
        )
        check_credit(self.credit, self.policy.core)
        for (name, value), (_, default) in zip(leaves(self.rtrl), leaves(RtrlConfig()), strict=True):
            remedy = f"has no effect with credit = {self.credit!r}; leave it at {default!r}"
            require(self.carries_traces or value == default, f"rtrl.{name}", value, remedy)
        require(
            self.credit == "tbptt" or not self.policy.freeze_core,
            "policy.freeze_core",
            self.policy.freeze_core,
            "a frozen core needs no credit: set credit = 'tbptt'",
        )
        if self.objective == "ppo":
            check_ppo(self.ppo, self.rtrl, self.unroll_length, self.batch_size)
        require(
            self.runtime == "ray" or self.prefetch != "on",
            "prefetch",
            self.prefetch,
            "inline acting and learning are one thread's work: set 'auto' or 'off', or runtime = 'ray'",
        )
        check_layout(self)
        check_learners(self)

    @property
    def steps_per_update(self) -> int:
        """Agent steps that one learner batch holds: T * B, dummy steps at episode ends included."""
        return self.unroll_length * self.batch_size

    @property
    def carries_traces(self) -> bool:
        """Whether the learner keeps sensitivities from unroll to unroll."""
        return carries_traces(self.credit)

    @property
    def num_cpus(self) -> int:
        """What Ray is asked for: a CPU for each thread of the actors, and of an evaluator beside them."""
        evaluator = self.evaluator_threads if self.eval.interval_steps else 0
        return self.num_actors * self.env.threads + evaluator

    @property
    def acting_device(self) -> str:
        """`actor_device`; what was left to the layout, and not laid out, is on the CPU."""
        return "cpu" if self.actor_device == "auto" else self.actor_device

    @property
    def evaluator_threads(self) -> int:
        """An actor's, but one beside actors that have all CPUs: its policy is then on the GPU too."""
        return self.env.threads if self.acting_device == "cpu" else 1

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Config:
        """The config that `to_json` wrote.

        Raises ConfigError for text that is not JSON, an unknown or missing field, or a bad value.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:  # also bytes that are no text
            raise ConfigError(f"config is not JSON: {error}") from error
        if isinstance(data, dict) and "num_streams" not in data:  # of before it was a setting
            env = data.get("env")
            slots = env.get("num_envs", 1) if isinstance(env, dict) else 1
            data = data | {"num_streams": data.get("num_actors", 48) * slots}
        return build(cls, data, "config")
