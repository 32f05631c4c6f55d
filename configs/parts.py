"""The branches of the config tree, each checked at construction. `configs/schema.py` is the root."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Encoder = Literal["none", "mlp", "shallow", "nature", "deep"]
Core = Literal["none", "lstm", "elstm"]
Credit = Literal["rtrl", "tbptt", "immediate"]
RewardClipping = Literal["abs_one", "none"]
Optimizer = Literal["rmsprop", "adam"]
Runtime = Literal["ray", "inline"]
WandbMode = Literal["online", "offline", "disabled"]


class ConfigError(ValueError):
    """A config value that cannot be used. The message names the field, the value and the remedy."""


def require(condition: bool, name: str, value: object, remedy: str) -> None:
    if not condition:
        raise ConfigError(f"{name} = {value!r}: {remedy}")


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """The `memory/...` tasks. Each takes some of these; one that it does not take is refused.

    The defaults of `memory/tmaze` are a corridor of 20 steps whose last 10 are quiet: no path inside
    an unroll of 11 steps or fewer leads from the reward back to the cue or to any distractor.
    """

    length_min: int = 20
    """tmaze: corridor steps between cue and junction; each episode draws from length_min..length_max."""
    length_max: int = 20
    quiet: int = 10
    """tmaze: the last steps of the corridor, which show no distractor symbols (0: all of it is noisy)."""
    num_cues: int = 2
    """tmaze, copy: different symbols, and as many actions."""
    random_phase: bool = True
    """tmaze, copy: after a reset each slot starts somewhere inside its first episode, not at its cue."""
    symbols: int = 3
    """copy: symbols of one sequence."""
    delay: int = 20
    """copy: blank steps between the sequence and its recall."""
    interval_min: int = 7
    """trace_conditioning: steps from cue onset to outcome onset; drawn from interval_min..interval_max."""
    interval_max: int = 13
    pause_min: int = 80
    """trace_conditioning: steps from outcome onset to the next cue; drawn from pause_min..pause_max."""
    pause_max: int = 120
    distractors: int = 10
    """trace_conditioning: other stimuli, the d-th of which starts with probability 1 / (10 d) a step."""
    episode_steps: int = 1000
    """trace_conditioning: steps after which an episode is truncated."""

    def __post_init__(self) -> None:
        least = {"quiet": 0, "num_cues": 2, "delay": 0, "interval_min": 4, "pause_min": 2, "distractors": 0}
        for name in ("length_min", "symbols", "episode_steps", *least):
            floor, value = least.get(name, 1), getattr(self, name)
            require(value >= floor, f"env.memory.{name}", value, f"needs at least {floor}")
        for name in ("length", "interval", "pause"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            require(high >= low, f"env.memory.{name}_max", high, f"below env.memory.{name}_min = {low}")
        require(
            self.quiet <= self.length_min,
            "env.memory.quiet",
            self.quiet,
            f"longer than the shortest corridor, env.memory.length_min = {self.length_min}",
        )


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """What the actors step. The id chooses the suite; a field of another suite is refused."""

    id: str
    """`ALE/Breakout-v5`, `cartpole/masked`, `memory/tmaze`, or any Gymnasium id (`module:Id-v0`)."""
    num_envs: int = 1
    """Env slots E that one actor steps together. One slot of one actor life is one stream."""
    num_threads: int = 1
    """Threads that one actor may use to step its slots (native vector envs only)."""
    max_episode_frames: int = 108_000
    """Atari: emulator frames after which an episode is truncated (108000 = 30 minutes at 60 Hz)."""
    sticky_actions: float = 0.0
    """Atari: probability that the previous action is repeated (0.25 in the v5 ids, 0 in the paper)."""
    full_action_space: bool = False
    """Atari: all 18 actions instead of the game's minimal set."""
    noop_max: int = 30
    """Atari: up to this many random no-ops after a reset."""
    life_loss_ends_episode: bool = False
    """Atari: a lost life is a termination for the learner; returns are still those of whole games."""
    fire_reset: bool = True
    """Atari: press FIRE after a reset in games that wait for it."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """Options of the `memory/...` tasks."""

    def __post_init__(self) -> None:
        require(bool(self.id), "env.id", self.id, "name an environment, for example ALE/Breakout-v5")
        require(self.num_envs >= 1, "env.num_envs", self.num_envs, "needs at least 1")
        require(self.num_threads >= 1, "env.num_threads", self.num_threads, "needs at least 1")
        require(self.max_episode_frames >= 1, "env.max_episode_frames", self.max_episode_frames, "at least 1")
        require(
            0.0 <= self.sticky_actions < 1.0,
            "env.sticky_actions",
            self.sticky_actions,
            "is a probability in [0, 1)",
        )
        require(self.noop_max >= 0, "env.noop_max", self.noop_max, "cannot be negative")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Encoder, recurrent core and heads."""

    encoder: Encoder = "mlp"
    features: int = 256
    """Width of the encoder's output; the core input adds the clipped previous reward."""
    core: Core = "elstm"
    hidden_size: int = 256
    """Units N of the core (unused by core `none`)."""
    forget_bias: float = 0.0
    """Added to the forget gate's bias at the start (the paper: 0)."""
    num_layers: int = 1
    """eLSTM layers. One is exact under RTRL; a stack carries an exact trace for each layer alone, and its
    credit across layers reaches back to the start of the unroll only: an approximation."""
    freeze_core: bool = False
    """A control: the recurrent weights stay as they began; encoder, output gate and heads learn."""
    previous_action: bool = False
    """Feed the previous action to the core as one-hot (off in the paper)."""

    def __post_init__(self) -> None:
        require(self.features >= 1, "policy.features", self.features, "needs at least 1")
        require(self.hidden_size >= 1, "policy.hidden_size", self.hidden_size, "needs at least 1")
        require(
            self.core != "none" or self.forget_bias == 0.0,
            "policy.forget_bias",
            self.forget_bias,
            "cannot take effect with policy.core = 'none'; leave it at 0",
        )
        require(self.num_layers >= 1, "policy.num_layers", self.num_layers, "needs at least 1")
        require(
            self.num_layers == 1 or self.core == "elstm",
            "policy.num_layers",
            self.num_layers,
            f"only the eLSTM stacks; policy.core is {self.core!r}",
        )
        require(
            not self.freeze_core or self.core != "none",
            "policy.freeze_core",
            self.freeze_core,
            "there is no core to freeze",
        )


@dataclass(frozen=True, kw_only=True)
class RtrlConfig:
    """How traces are carried under credit = "rtrl", and what is measured of them."""

    boundary: bool = True
    """False, a control: every unroll starts from zero traces, which leaves exactly TBPTT's gradient."""
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
class CheckpointConfig:
    """When learner state is written to `RUN_DIR/checkpoints`."""

    interval_s: float = 600.0
    keep_last: int = 3

    def __post_init__(self) -> None:
        require(self.interval_s > 0, "checkpoint.interval_s", self.interval_s, "must be positive")
        require(self.keep_last >= 1, "checkpoint.keep_last", self.keep_last, "keep at least 1")


@dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """Weights & Biases. `metrics.jsonl` is written whatever the mode."""

    mode: WandbMode = "offline"
    project: str = "evertrace"
    entity: str | None = None
    group: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """The Ray runtime: where the actors live and how failures are met."""

    address: str | None = None
    """None starts Ray on this machine, bound to loopback; else the address of a running cluster."""
    object_store_mib: int = 1024
    """Object store of a local Ray, in MiB."""
    rollouts_in_flight: int = 2
    """Rollouts an actor may have asked for or finished that the learner has not taken (back-pressure)."""
    rollout_timeout_s: float = 600.0
    """An actor that owes a rollout for longer is killed and replaced."""
    max_consecutive_failures: int = 5
    """Failures of one actor in a row, without a rollout between, after which the run stops."""

    def __post_init__(self) -> None:
        require(self.object_store_mib >= 80, "ray.object_store_mib", self.object_store_mib, "at least 80")
        require(self.rollouts_in_flight >= 1, "ray.rollouts_in_flight", self.rollouts_in_flight, "at least 1")
        require(
            self.rollout_timeout_s > 0, "ray.rollout_timeout_s", self.rollout_timeout_s, "must be positive"
        )
        require(
            self.max_consecutive_failures >= 1,
            "ray.max_consecutive_failures",
            self.max_consecutive_failures,
            "at least 1",
        )
