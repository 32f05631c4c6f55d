"""The whole run in one typed tree.

Standard library only, so that `--help` and validation need neither torch nor ray. Every
dataclass is frozen and checked at construction: a bad value raises a ValueError that names the
field, the value, and the remedy. Names of IMPALA's hyper-parameters are kept verbatim.

Units: `*_steps` count agent steps (decisions), never emulator frames; `*_s` are seconds.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

Encoder = Literal["none", "mlp", "shallow", "nature", "deep"]
Core = Literal["none", "lstm", "elstm"]
Credit = Literal["rtrl", "tbptt"]
RewardClipping = Literal["abs_one", "none"]
Optimizer = Literal["rmsprop", "adam"]
Runtime = Literal["ray", "inline"]
WandbMode = Literal["online", "offline", "disabled"]


class ConfigError(ValueError):
    """A config value that cannot be used. The message names the field, the value and the remedy."""


def _require(condition: bool, name: str, value: object, remedy: str) -> None:
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
            _require(value >= floor, f"env.memory.{name}", value, f"needs at least {floor}")
        for name in ("length", "interval", "pause"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            _require(high >= low, f"env.memory.{name}_max", high, f"below env.memory.{name}_min = {low}")
        _require(
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
        _require(bool(self.id), "env.id", self.id, "name an environment, for example ALE/Breakout-v5")
        _require(self.num_envs >= 1, "env.num_envs", self.num_envs, "needs at least 1")
        _require(self.num_threads >= 1, "env.num_threads", self.num_threads, "needs at least 1")
        _require(
            self.max_episode_frames >= 1, "env.max_episode_frames", self.max_episode_frames, "at least 1"
        )
        _require(
            0.0 <= self.sticky_actions < 1.0,
            "env.sticky_actions",
            self.sticky_actions,
            "is a probability in [0, 1)",
        )
        _require(self.noop_max >= 0, "env.noop_max", self.noop_max, "cannot be negative")


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
    previous_action: bool = False
    """Feed the previous action to the core as one-hot (off in the paper)."""

    def __post_init__(self) -> None:
        _require(self.features >= 1, "policy.features", self.features, "needs at least 1")
        _require(self.hidden_size >= 1, "policy.hidden_size", self.hidden_size, "needs at least 1")
        _require(
            self.core != "none" or self.forget_bias == 0.0,
            "policy.forget_bias",
            self.forget_bias,
            "cannot take effect with policy.core = 'none'; leave it at 0",
        )


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When learner state is written to `RUN_DIR/checkpoints`."""

    interval_s: float = 600.0
    keep_last: int = 3

    def __post_init__(self) -> None:
        _require(self.interval_s > 0, "checkpoint.interval_s", self.interval_s, "must be positive")
        _require(self.keep_last >= 1, "checkpoint.keep_last", self.keep_last, "keep at least 1")


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
        _require(self.object_store_mib >= 80, "ray.object_store_mib", self.object_store_mib, "at least 80")
        _require(
            self.rollouts_in_flight >= 1, "ray.rollouts_in_flight", self.rollouts_in_flight, "at least 1"
        )
        _require(
            self.rollout_timeout_s > 0, "ray.rollout_timeout_s", self.rollout_timeout_s, "must be positive"
        )
        _require(
            self.max_consecutive_failures >= 1,
            "ray.max_consecutive_failures",
            self.max_consecutive_failures,
            "at least 1",
        )


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run, complete: everything that decides its course, and nothing else."""

    preset: str = "custom"
    """The preset that this config began as (a label; presets are functions in configs/presets)."""
    env: EnvConfig
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    seed: int = 1
    run_dir: str | None = None
    """Where the run keeps its files; None: a new folder `runs/PRESET/TIME-seedN`."""
    runtime: Runtime = "ray"
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, ..."""
    learner_threads: int = 0
    """CPU threads of the learner; 0: torch's default."""
    total_steps: int = 200_000_000
    """Agent steps, summed over all streams, after which the run ends; the learning rate falls to 0."""
    time_limit_s: float | None = None
    """Ends the run after this wall time, if that comes before total_steps."""

    num_actors: int = 48
    unroll_length: int = 50
    """T: steps of a rollout."""
    batch_size: int = 32
    """B: rollout columns (streams) of one learner batch."""

    max_policy_lag: int | None = None
    """Rollouts acted by weights older than this many updates are dropped (and counted); None keeps all."""

    credit: Credit = "rtrl"
    """`rtrl`: exact RTRL of the core (eLSTM only); `tbptt`: credit is cut at the unroll boundary."""
    discounting: float = 0.99
    baseline_cost: float = 0.5
    entropy_cost: float = 0.01
    reward_clipping: RewardClipping = "abs_one"
    """Of the reward in the loss; the wire and all reported returns stay raw."""
    clip_rho_threshold: float | None = 1.0
    clip_pg_rho_threshold: float | None = 1.0
    clip_c_threshold: float | None = 1.0
    lambda_: float = 1.0

    optimizer: Optimizer = "rmsprop"
    """`rmsprop` as in the papers, or `adam` (with betas 0.9 and 0.999)."""
    learning_rate: float = 6e-4
    """Falls linearly to 0 at total_steps."""
    alpha: float = 0.99
    """RMSprop: decay of the squared gradient."""
    epsilon: float = 0.01
    """Added to the root of the squared gradient's average (outside the square root)."""
    momentum: float = 0.0
    """RMSprop only."""
    grad_norm_clipping: float = 40.0

    log_interval_s: float = 2.0
    """Metrics are reduced and written at most this often."""
    diagnostics_interval: int = 50
    """Updates between two measurements of the RTRL diagnostics (rtrl/*)."""

    def __post_init__(self) -> None:
        for name in ("total_steps", "num_actors", "unroll_length", "batch_size", "diagnostics_interval"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "needs at least 1")
        for name in ("learning_rate", "epsilon", "grad_norm_clipping", "log_interval_s"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "must be positive")
        for name in ("baseline_cost", "entropy_cost", "momentum", "learner_threads", "seed"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "cannot be negative")
        for name in ("clip_rho_threshold", "clip_pg_rho_threshold", "clip_c_threshold"):
            value = getattr(self, name)
            _require(value is None or value > 0, name, value, "must be positive, or None for no clip")
        _require(
            self.max_policy_lag is None or self.max_policy_lag >= 1,
            "max_policy_lag",
            self.max_policy_lag,
            "at least 1, or None to keep every rollout",
        )
        _require(0 <= self.discounting <= 1, "discounting", self.discounting, "lies in [0, 1]")
        _require(0 <= self.lambda_ <= 1, "lambda_", self.lambda_, "lies in [0, 1]")
        _require(0 < self.alpha < 1, "alpha", self.alpha, "lies in (0, 1)")
        _require(
            self.time_limit_s is None or self.time_limit_s > 0,
            "time_limit_s",
            self.time_limit_s,
            "must be positive, or None for no limit",
        )
        _require(
            self.optimizer == "rmsprop" or self.momentum == 0.0,
            "momentum",
            self.momentum,
            "has no effect with optimizer = 'adam'; set it to 0",
        )
        _require(
            self.credit == "tbptt" or self.policy.core == "elstm",
            "credit",
            self.credit,
            f"exact RTRL needs policy.core = 'elstm', not {self.policy.core!r}; or set credit = 'tbptt'",
        )
        slots, streams = self.env.num_envs, self.num_actors * self.env.num_envs
        _require(
            self.batch_size % slots == 0,
            "batch_size",
            self.batch_size,
            f"must be a multiple of env.num_envs = {slots}, since a rollout carries that many columns",
        )
        _require(
            self.batch_size <= streams,
            "batch_size",
            self.batch_size,
            f"can never be filled: num_actors * env.num_envs = {self.num_actors} * {slots} = {streams} "
            "streams, and a batch holds one rollout of a stream; lower batch_size or raise num_actors",
        )

    @property
    def steps_per_update(self) -> int:
        """Agent steps that one learner batch holds: T * B, dummy steps at episode ends included."""
        return self.unroll_length * self.batch_size

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Config:
        """The config that `to_json` wrote.

        Raises ConfigError for text that is not JSON, an unknown or missing field, or a bad value.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"config is not JSON: {error}") from error
        return _build(cls, data, "config")


def _build(cls: type[Any], data: object, path: str) -> Any:
    """Builds the dataclass `cls` from plain JSON data, checking each field's name and type."""
    if not isinstance(data, dict):
        raise ConfigError(f"{path} = {data!r}: expected an object with the fields of {cls.__name__}")
    hints = get_type_hints(cls)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ConfigError(
            f"{path}: unknown field {unknown[0]!r}; {cls.__name__} has {', '.join(sorted(hints))}"
        )
    values = {name: _coerce(hints[name], value, f"{path}.{name}") for name, value in data.items()}
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if f.name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{path}: field {missing[0]!r} is missing")
    return cls(**values)


def _coerce(hint: Any, value: object, path: str) -> object:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast("type[Any]", hint), value, path)
    options = get_args(hint)
    if get_origin(hint) is Literal:
        if value not in options:
            raise ConfigError(f"{path} = {value!r}: choose one of {', '.join(map(repr, options))}")
        return value
    allowed = tuple(o for o in (options or (hint,)))
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if int not in allowed else value
    if not any(type(value) is option for option in allowed):
        names = " or ".join(getattr(o, "__name__", str(o)) for o in allowed)
        raise ConfigError(f"{path} = {value!r}: expected {names}")
    return value
