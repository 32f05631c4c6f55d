"""POPGym (Morad et al. 2023, arXiv 2303.01859): small tasks that need a memory.

`popgym/RepeatFirstEasy` and so on: all tasks that the package registers, each Easy, Medium and Hard. Those of
labyrinths exist where the package mazelib is installed too. Spaces are small and discrete, or short vectors:
`gym_spaces.py` encodes them.

POPGym's own wrapper Antialias adds a flag to every observation, whether it is an episode's first: without it
RepeatFirst does not say which card to remember. Four tasks (MultiarmedBandit, Concentration, Battleship,
MineSweeper) ask for the previous action, which is the policy's: `--policy.previous-action`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, cast

import gymnasium
from gymnasium import spaces
from popgym.wrappers import Antialias, DiscreteAction  # importing the package registers the tasks

from configs.schema import EnvConfig
from envs.suites.gym.env import GymVecEnv, make_registered

_GYM_IDS = {
    f"popgym/{match[1]}": gym_id
    for gym_id in gymnasium.registry
    if (match := re.fullmatch(r"popgym-(\w+)-v0", str(gym_id)))
}


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return tuple(_GYM_IDS)


def _make_one(env_id: str) -> gymnasium.Env[Any, Any]:
    env: Any = Antialias(cast(Any, make_registered(env_id, _GYM_IDS[env_id])))
    # Battleship and MineSweeper choose a row and a column: one action a square.
    return DiscreteAction(env) if isinstance(env.action_space, spaces.MultiDiscrete) else env


def make(config: EnvConfig, first_stream: int) -> GymVecEnv:
    return GymVecEnv(config.id, config.num_envs, partial(_make_one, config.id))
