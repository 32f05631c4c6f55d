"""POPGym (Morad et al. 2023, arXiv 2303.01859): small tasks that need a memory.

`popgym/RepeatFirstEasy` and so on: all tasks that the package registers, each in three difficulties; the
name without one is the base class, which is as the easy one. Those of labyrinths exist where the package
mazelib is installed too. Spaces are small and discrete, or short vectors: `gym_spaces.py` encodes them.
Four tasks (MultiarmedBandit, Concentration, Battleship, MineSweeper) ask for the previous action:
`--policy.previous-action`.
"""

from __future__ import annotations

import re
from functools import partial

import gymnasium
import popgym  # noqa: F401  (registers the tasks)

from configs.schema import EnvConfig
from envs.gym import GymVecEnv, make_registered

_GYM_IDS = {
    f"popgym/{match[1]}": gym_id
    for gym_id in gymnasium.registry
    if (match := re.fullmatch(r"popgym-(\w+)-v0", str(gym_id)))
}


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    return tuple(_GYM_IDS)


def make(config: EnvConfig, actor_id: int) -> GymVecEnv:
    return GymVecEnv(config.id, config.num_envs, partial(make_registered, config.id, _GYM_IDS[config.id]))
