"""Presets of the suites of memory tasks, each with the arms {rtrl,tbptt,lstm,feedforward}:

    popgym_<task>_...           POPGym; `repeat_first` is RepeatFirstEasy, `repeat_first_hard` the hard one
    minigrid_<task>_...         MiniGrid; `memory_s7` is minigrid/MemoryS7, `door_key-8x8` DoorKey-8x8
    vizdoom_<scenario>_...      ViZDoom; `my_way_home` is vizdoom/MyWayHome
    mujoco_<body>_{p,v}_...     MuJoCo with velocities (p) or positions (v) hidden; `half_cheetah`, `walker2d`
    mujoco_reacher_g_...        Reacher whose goal is shown at the first step only

The POPGym tasks of arXiv 2409.01449 are count_recall, repeat_first, concentration, autoencode and
higher_lower, all easy, and its MuJoCo bodies are ant, half_cheetah, hopper and walker2d (played in Brax).
Its learner is PPO, and so it is here on MuJoCo; the other settings are our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from configs.control import GaussianConfig
from configs.schema import Config, EnvConfig, PolicyConfig, PpoConfig, RayConfig
from configs.variants import VARIANTS

_LEVELS = ("easy", "medium", "hard")
_NEEDS_ACTION = ("Battleship", "Concentration", "MineSweeper", "MultiarmedBandit")
"""POPGym tasks whose observation does not say what was done."""


def _camel(name: str) -> str:
    """repeat_first to RepeatFirst; memory_s13_random to MemoryS13Random; fetch-5x5-n2 to Fetch-5x5-N2."""
    parts = ([word[0].upper() + word[1:] for word in part.split("_") if word] for part in name.split("-"))
    return "-".join("".join(words) for words in parts)


def _policy(arm: dict[str, Any], **options: Any) -> PolicyConfig:
    """Forget gates open a little at the start, where there are some and nothing else is said."""
    return PolicyConfig(core=arm["core"], **{"forget_bias": 2.0, **options})


def popgym(task: str, variant: str) -> Config:
    """About half a minute on one core. One actor in the learner's process, as for our own memory tasks."""
    arm = VARIANTS[variant]
    name = _camel(task if task.endswith(_LEVELS) else f"{task}_easy")
    return Config(
        preset=f"popgym_{task}_{variant}",
        env=EnvConfig(id=f"popgym/{name}"),
        policy=_policy(arm, encoder="none", hidden_size=64, previous_action=name.startswith(_NEEDS_ACTION)),
        runtime="inline",
        device="cpu",
        credit=arm["credit"],
        num_streams=16,
        unroll_length=10,
        batch_size=16,
        total_steps=400_000,
        learner_threads=1,
        discounting=0.9,  # in the five tasks above a reward answers an action of the same or a recent step
        reward_clipping="none",
        reward_scale=10.0,  # the task's add up to 1 an episode: as they are, entropy outweighs them
        optimizer="adam",
        learning_rate=3e-3,
        epsilon=1e-8,
        grad_norm_clipping=160.0,  # of a sum over T * B steps: bounds the gradient of its mean by 1
    )


def minigrid(task: str, variant: str) -> Config:
    """Five minutes on one core. Observations are normalised: of the view's one-hot planes most never change,
    and the object that is to be remembered shows in a few that are rarely set. As they are, it is a small
    part of a large sum, and MemoryS7 stays at a guess (0.5) for two to five times as long
    (docs/log.md)."""
    arm = VARIANTS[variant]
    return Config(
        preset=f"minigrid_{task}_{variant}",
        env=EnvConfig(id=f"minigrid/{_camel(task)}"),
        policy=_policy(
            arm, encoder="none", hidden_size=64, normalise_observations=True, forget_bias="spread"
        ),
        runtime="inline",
        device="cpu",
        credit=arm["credit"],
        num_streams=16,
        unroll_length=20,
        batch_size=16,
        total_steps=2_000_000,
        learner_threads=1,
        lambda_=0.95,
        entropy_cost=0.003,
        reward_clipping="none",
        optimizer="adam",
        learning_rate=2e-3,
        epsilon=1e-8,
        grad_norm_clipping=320.0,
    )


def vizdoom(scenario: str, variant: str) -> Config:
    """IMPALA's small network and its settings on a workstation: 16 engines, 20 M agent steps."""
    arm = VARIANTS[variant]
    return Config(
        preset=f"vizdoom_{scenario}_{variant}",
        env=EnvConfig(id=f"vizdoom/{_camel(scenario)}"),
        policy=_policy(arm, encoder="shallow", hidden_size=256),
        credit=arm["credit"],
        num_streams=32,
        unroll_length=50,
        batch_size=32,
        total_steps=20_000_000,
    )


def mujoco(body: str, shown: str, variant: str) -> Config:
    """`shown`: p (positions), v (velocities) or g (Reacher's goal, at first). The reward is not fed to the
    core: it would tell the velocity, or the distance to the goal."""
    return reacher(body, variant) if shown == "g" else half_seen(body, shown, variant)


def half_seen(body: str, shown: str, variant: str) -> Config:
    """PPO on 2048 steps a batch, observations and rewards normalised, as in arXiv 2409.01449; epochs over
    sub-chunks of 16 steps and not over single ones. The previous action is fed to the core: what was done
    explains half of what came of it."""
    arm = VARIANTS[variant]
    return Config(
        preset=f"mujoco_{body}_{shown}_{variant}",
        env=EnvConfig(id=f"mujoco/{_camel(body)}-{shown.upper()}"),
        policy=_policy(
            arm,
            encoder="mlp",
            features=64,
            hidden_size=128,
            normalise_observations=True,
            gaussian=GaussianConfig(deviation="free", bounds="clip"),
            previous_action=True,
            previous_reward=False,
        ),
        ray=RayConfig(rollouts_in_flight=1),
        objective="ppo",
        ppo=PpoConfig(epochs=4, minibatches=8, chunk_length=16),
        credit=arm["credit"],
        num_streams=16,
        unroll_length=128,
        batch_size=16,
        total_steps=1_000_000,
        learner_threads=1,
        lambda_=0.95,
        entropy_cost=0.0,
        normalise_rewards=True,
        reward_clipping="none",
        optimizer="adam",
        learning_rate=2e-3,
        epsilon=1e-5,
        grad_norm_clipping=0.5,  # of a mean over a minibatch, as PPO's losses are
    )


def reacher(body: str, variant: str) -> Config:
    """The settings are those of CartPole's presets. Observations are as they are: a goal that is 0 but for an
    episode's first step has so small a deviation that, normalised, it would be clipped."""
    arm = VARIANTS[variant]
    return Config(
        preset=f"mujoco_{body}_g_{variant}",
        env=EnvConfig(id=f"mujoco/{_camel(body)}-G"),
        policy=_policy(arm, encoder="mlp", features=64, hidden_size=64, previous_reward=False),
        ray=RayConfig(rollouts_in_flight=1),
        credit=arm["credit"],
        num_streams=32,
        unroll_length=64,
        batch_size=32,
        total_steps=5_000_000,
        learner_threads=1,
        lambda_=0.95,
        entropy_cost=0.001,
        reward_clipping="none",
        optimizer="adam",
        learning_rate=1e-3,
        epsilon=1e-5,
    )


TASK_SUITES: dict[str, Callable[[str, str], Config]] = {
    "popgym": popgym,
    "minigrid": minigrid,
    "vizdoom": vizdoom,
}
"""Suites whose presets are named by a task and an arm."""
