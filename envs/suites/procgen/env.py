"""ProcGen (Cobbe et al. 2020, arXiv 1912.01588): 16 games with generated levels, `procgen/coinrun` and so on.

`env.procgen` chooses the set of levels, their difficulty, and which of two packages plays the games
(`envs/suites/procgen/backends.py`).
"""

from __future__ import annotations

import dataclasses
import warnings

from configs.schema import EnvConfig
from envs.spec import EnvError, VecEnv
from envs.suites.procgen.backends import (
    LOAD,
    PREFIX,
    TIME_LIMITS,
    EnvpoolVecEnv,
    MirrorVecEnv,
    obstacle,
)

__all__ = ["held_out", "known_ids", "make", "obstacle"]

_MODES = {
    "extreme": ("chaser", "dodgeball", "leaper", "starpilot"),
    "memory": ("caveflyer", "dodgeball", "heist", "jumper", "maze", "miner"),
    "exploration": ("caveflyer", "climber", "coinrun", "heist", "jumper", "leaper", "maze", "ninja"),
}
_IDS = tuple(PREFIX + game for game in TIME_LIMITS)


def _choose(config: EnvConfig) -> str:
    """The backend to use. Raises EnvError if it cannot run; warns when `auto` has to take the second."""
    asked = config.procgen.backend
    obstacles: list[str] = []
    for backend in LOAD if asked == "auto" else (asked,):
        reason = obstacle(backend)
        if reason is None:
            if obstacles:
                warnings.warn(f"ProcGen runs on the backend {backend!r}: {obstacles[0]}", stacklevel=2)
            return backend
        obstacles.append(reason)
    raise EnvError(f"env.id = {config.id!r}: {'; or instead: '.join(obstacles)}")


def _check(config: EnvConfig) -> None:
    """Raises EnvError for a mode that the game lacks, a backend that cannot run, or an idle setting."""
    mode, game = config.procgen.distribution_mode, config.id.removeprefix(PREFIX)
    modes = ["easy", "hard", *(name for name, games in _MODES.items() if game in games)]
    if mode not in modes:
        raise EnvError(f"env.procgen.distribution_mode = {mode!r}: {config.id} has {', '.join(modes)}")
    if _choose(config) == "procgen" and config.threads != 1:
        raise EnvError(
            f"env.num_threads = {config.num_threads} cannot take effect: the ProcGen backend 'procgen' steps "
            "its slots one after the other; leave it at 1, or install envpool for env.procgen.backend"
        )


def held_out(config: EnvConfig) -> EnvConfig | None:
    """The env that tells how well a policy trained on `config` generalises: all levels of its distribution,
    the protocol of ProcGen's paper. The training levels among them are a share of num_levels / 2**31.

    None where nothing is held out: `config` is on all levels, or on the one level of exploration.
    """
    if config.procgen.num_levels == 0:
        return None
    return dataclasses.replace(
        config, procgen=dataclasses.replace(config.procgen, num_levels=0, start_level=0)
    )


def known_ids(config: EnvConfig) -> tuple[str, ...]:
    """All 16. Raises EnvError if `config.id` is one of them but cannot be played as asked."""
    if config.id in _IDS:
        _check(config)
    return _IDS


def make(config: EnvConfig, first_stream: int) -> VecEnv:
    return {"envpool": EnvpoolVecEnv, "procgen": MirrorVecEnv}[_choose(config)](config)
