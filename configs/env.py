"""The environment's branch of the config tree: what the actors step, and the options of each suite."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from configs.error import require

DistributionMode = Literal["easy", "hard", "extreme", "memory", "exploration"]
ProcgenBackend = Literal["auto", "envpool", "procgen"]
DmlabActions = Literal["impala", "popart"]
DmlabRenderer = Literal["software", "hardware"]


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """The `memory/...` tasks. Each takes some of these; one that it does not take is refused.

    The defaults of `memory/tmaze` are a corridor of 20 steps whose last 10 are quiet: no path inside
    an unroll of 11 steps or fewer leads from the reward back to the cue or to any distractor.
    """

    length_min: int = 20
    """tmaze, endless_tmaze: corridor steps between cue and junction; each episode draws from
    length_min..length_max."""
    length_max: int = 20
    quiet: int = 10
    """tmaze, endless_tmaze: the last steps of the corridor, which show no distractor symbols (0: all of it is
    noisy)."""
    num_cues: int = 2
    """tmaze, endless_tmaze, copy, act_now: different symbols, and as many actions."""
    random_phase: bool = True
    """All but trace_conditioning: after a reset each slot starts somewhere inside its first episode, not at
    its beginning."""
    jitter: int = 0
    """tmaze_pixels: pixels, to each side, that a symbol may lie off its place, drawn anew at every step."""
    symbols: int = 3
    """copy: symbols of one sequence."""
    delay: int = 20
    """copy, chain, act_now: blank steps between the sequence and its recall, the bit and the choice, the
    action and its reward."""
    cued: bool = False
    """act_now: the right action is that of a symbol that is shown; else it is always the first."""
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
        least = {
            "quiet": 0,
            "num_cues": 2,
            "delay": 0,
            "jitter": 0,
            "interval_min": 4,
            "pause_min": 2,
            "distractors": 0,
        }
        require(self.jitter <= 6, "env.memory.jitter", self.jitter, "there are 6 pixels to each side at most")
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
class DmlabConfig:
    """The `dmlab/...` levels of DeepMind Lab. The defaults are IMPALA's."""

    width: int = 96
    """Pixels; multiples of 4"""
    height: int = 72
    action_repeat: int = 4
    """Frames, at 60 a second, that one action is held for."""
    actions: DmlabActions = "impala"
    """`impala`: 9 actions. `popart`: 15, with small and large turns and looking up and down."""
    renderer: DmlabRenderer = "software"
    """`hardware` renders on a GPU by EGL."""
    held_out: bool = False
    """For evaluation: allow levels that must not be trained on, and draw maps from seeds set apart."""
    level_cache: str | None = None
    """A folder that keeps compiled maps, shared by all actors that see it; None compiles every map anew."""
    num_maps: int = 0
    """Training draws its episodes' seeds, and so their maps, from a set of this size, the same in every run.
    0: each seed is new, and a level cache of little use. What evaluation holds out is not in the set."""
    reset_ahead: bool | None = None
    """From a slot's second episode on, a second engine (200 to 400 MB) starts the next one while the first
    plays: no slot then waits for the map of another. None: where an actor has several slots."""
    dataset_path: str | None = None
    """A folder of images that some psychlab levels show; `dummy` makes the engine invent some."""
    extra_observations: str = ""
    """Observations besides the image, by the engine's names and comma-separated: INSTR (the instruction),
    VEL.TRANS and VEL.ROT (velocities), DEBUG.POS.TRANS, ...: envs/suites/dmlab/observations.py has all."""

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            require(value >= 4 and value % 4 == 0, f"env.dmlab.{name}", value, "needs a multiple of 4")
        name = "env.dmlab.action_repeat"
        require(self.action_repeat >= 1, name, self.action_repeat, "needs at least 1")
        name = "env.dmlab.num_maps"
        require(0 <= self.num_maps < 2**31 - 1, name, self.num_maps, "needs 0 (all) to 2**31 - 2")
        for name in ("level_cache", "dataset_path"):
            value = getattr(self, name)
            require(
                value is None or PurePath(value).is_absolute() or (name, value) == ("dataset_path", "dummy"),
                f"env.dmlab.{name}",
                value,
                "give an absolute path: each actor has a working directory of its own",
            )


@dataclass(frozen=True, kw_only=True)
class ProcgenConfig:
    """The `procgen/...` games. A level is made from its seed; each episode draws one of the set's levels."""

    num_levels: int = 0
    """Size of the level set; 0: all levels, which is what a policy is tested on (`start_level` is then 0)."""
    start_level: int = 0
    """Seed of the set's first level: it holds start_level to start_level + num_levels - 1."""
    distribution_mode: DistributionMode = "hard"
    """Every game has easy and hard; some have extreme, memory or exploration (one fixed, large level)."""
    backend: ProcgenBackend = "auto"
    """`envpool`, or `procgen` (procgen-mirror); auto: the first of them that runs here."""

    def __post_init__(self) -> None:
        name = "env.procgen.num_levels"
        require(self.num_levels >= 0, name, self.num_levels, "cannot be negative; 0 is all levels")
        require(
            self.distribution_mode != "exploration" or self.num_levels == 0,
            name,
            self.num_levels,
            "env.procgen.distribution_mode = 'exploration' is a single level: leave it at 0",
        )
        name = "env.procgen.start_level"
        require(self.start_level >= 0, name, self.start_level, "cannot be negative")
        require(
            self.num_levels > 0 or self.start_level == 0,
            name,
            self.start_level,
            "has no effect with env.procgen.num_levels = 0 (all levels); set num_levels, or leave it at 0",
        )
        require(
            self.start_level + self.num_levels < 2**31,
            name,
            self.start_level,
            f"with env.procgen.num_levels = {self.num_levels} it passes the last level, 2**31 - 2",
        )


@dataclass(frozen=True, kw_only=True)
class VizdoomConfig:
    """The `vizdoom/...` scenarios."""

    frame_skip: int = 4
    """Frames, at 35 a second, that one action is held for; their rewards add up."""

    def __post_init__(self) -> None:
        require(self.frame_skip >= 1, "env.vizdoom.frame_skip", self.frame_skip, "needs at least 1")


@dataclass(frozen=True, kw_only=True)
class AtariConfig:
    """What an agent step of the `ALE/...` games is, and what it shows. The defaults are DQN's."""

    frame_stack: int = 4
    """Observations that are shown at once, the newest among them. 1: what is not on the screen has to be
    remembered."""
    frame_skip: int = 4
    """Frames, at 60 a second, that one action is held for; the last two are max-pooled."""
    size: int = 84
    """Pixels of an observation's side; the screen has 160 x 210."""
    colour: bool = False
    """Three channels a frame instead of a grey one."""

    def __post_init__(self) -> None:
        for name in ("frame_stack", "frame_skip"):
            require(getattr(self, name) >= 1, f"env.atari.{name}", getattr(self, name), "needs at least 1")
        require(
            1 <= self.size <= 160, "env.atari.size", self.size, "1 to 160, the shorter side of the screen"
        )


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """What the actors step. The id chooses the suite; a field of another suite is refused."""

    id: str
    """`ALE/Breakout-v5`, `procgen/chaser`, `memory/tmaze`, ..., or any Gymnasium id (`module:Id-v0`)."""
    num_envs: int = 0
    """Env slots E that one actor steps together, at most; 0: num_streams, spread over the actors (an env that
    is made alone has one)."""
    kwargs: str = ""
    """Any Gymnasium id: arguments of its constructor, a JSON object: '{"size": 9}'."""
    wrappers: str = ""
    """Any Gymnasium id: `module:function` of an environment that returns one, comma-separated, the innermost
    first; `gymnasium.wrappers:FlattenObservation`."""
    num_threads: int = 0
    """Threads that one actor may use to step its slots (native vector envs), or to render one (dmlab); 0:
    one, or more where a few actors have all CPUs beside a GPU (configs/layout.py)."""
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
    """Atari: press FIRE after a reset and, where a lost life ends an episode, after that too, in games that
    wait for it."""
    atari: AtariConfig = field(default_factory=AtariConfig)
    """Options of the `ALE/...` games' observations."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """Options of the `memory/...` tasks."""
    procgen: ProcgenConfig = field(default_factory=ProcgenConfig)
    """Options of the `procgen/...` games."""
    dmlab: DmlabConfig = field(default_factory=DmlabConfig)
    """Options of the `dmlab/...` levels."""
    vizdoom: VizdoomConfig = field(default_factory=VizdoomConfig)
    """Options of the `vizdoom/...` scenarios."""

    def __post_init__(self) -> None:
        require(bool(self.id), "env.id", self.id, "name an environment, for example ALE/Breakout-v5")
        require(self.num_envs >= 0, "env.num_envs", self.num_envs, "cannot be negative")
        require(_is_object(self.kwargs), "env.kwargs", self.kwargs, "needs a JSON object: '{\"size\": 9}'")
        for name in self.wrapper_names:
            form = all(name.partition(":"))
            require(form, "env.wrappers", self.wrappers, f"{name!r} is not of the form module:function")
        require(self.num_threads >= 0, "env.num_threads", self.num_threads, "cannot be negative")
        require(self.max_episode_frames >= 1, "env.max_episode_frames", self.max_episode_frames, "at least 1")
        require(
            0.0 <= self.sticky_actions < 1.0,
            "env.sticky_actions",
            self.sticky_actions,
            "is a probability in [0, 1)",
        )
        require(self.noop_max >= 0, "env.noop_max", self.noop_max, "cannot be negative")

    @property
    def threads(self) -> int:
        """`num_threads`, as set or chosen: one where neither was done."""
        return self.num_threads or 1

    @property
    def wrapper_names(self) -> tuple[str, ...]:
        """`wrappers`, one by one."""
        return tuple(name.strip() for name in self.wrappers.split(",") if name.strip())


def _is_object(text: str) -> bool:
    try:
        return not text or isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False
