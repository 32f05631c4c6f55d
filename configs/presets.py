"""Presets by name. A preset is a function of its name's parts; every suite has a file of them."""

from __future__ import annotations

import re
from difflib import get_close_matches

from configs.atari import atari, atari_bench, atari_cpu
from configs.cartpole import cartpole
from configs.dmlab import dmlab, dmlab30, dmlab_cpu
from configs.gym import gym
from configs.memory import memory
from configs.memory_suites import TASK_SUITES, mujoco
from configs.procgen import procgen, procgen_cpu
from configs.schema import Config, ConfigError
from configs.variants import VARIANTS

_ARM = "|".join(VARIANTS)
_ATARI = re.compile(rf"atari_(?P<game>[a-z][a-z0-9_]*?)_(?P<arm>{_ARM})(?P<size>_cpu|_bench)?")
_CARTPOLE = re.compile(rf"cartpole_(?P<full>full_)?(?P<arm>{_ARM})")
_DMLAB = re.compile(rf"dmlab_(?P<level>[a-z][a-z0-9_]*?)_(?P<arm>{_ARM})(?P<size>_cpu)?")
_DMLAB30 = re.compile(rf"dmlab30_(?P<arm>{_ARM})")
_GYM = re.compile(rf"gym_(?P<arm>{_ARM})")
_MEMORY = re.compile(rf"memory_(?P<arm>{_ARM})")
_MUJOCO = re.compile(rf"mujoco_(?P<body>[a-z][a-z0-9_]*?)_(?P<shown>[pvg])_(?P<arm>{_ARM})")
_PROCGEN = re.compile(rf"procgen_(?P<game>[a-z]+)_(?P<arm>{_ARM})(?P<size>_cpu)?")
_TASK = re.compile(rf"(?P<suite>{'|'.join(TASK_SUITES)})_(?P<task>[a-z][a-z0-9_-]*?)_(?P<arm>{_ARM})")


def preset_patterns() -> list[str]:
    """The families of names, for help texts."""
    arms = "{" + ",".join(VARIANTS) + "}"
    return [
        f"atari_<game>_{arms}[_cpu|_bench]",
        f"cartpole_[full_]{arms}",
        f"dmlab_<level>_{arms}[_cpu]",
        f"dmlab30_{arms}",
        f"gym_{arms} --env.id ID",
        f"memory_{arms}",
        f"mujoco_<body>_{{p,v}}_{arms}",
        f"mujoco_reacher_g_{arms}",
        f"procgen_<game>_{arms}[_cpu]",
        *(f"{suite}_<task>_{arms}" for suite in TASK_SUITES),
    ]


def preset(name: str) -> Config:
    """The config of that name. Raises ConfigError, with the families of names, for an unknown one."""
    if match := _ATARI.fullmatch(name):
        build = {None: atari, "_cpu": atari_cpu, "_bench": atari_bench}[match["size"]]
        return build(match["game"], match["arm"])
    if match := _CARTPOLE.fullmatch(name):
        return cartpole(match["arm"], "cartpole/full" if match["full"] else "cartpole/masked")
    if match := _DMLAB.fullmatch(name):
        return (dmlab_cpu if match["size"] else dmlab)(match["level"], match["arm"])
    if match := _DMLAB30.fullmatch(name):
        return dmlab30(match["arm"])
    if match := _GYM.fullmatch(name):
        return gym(match["arm"])
    if match := _MEMORY.fullmatch(name):
        return memory(match["arm"])
    if match := _PROCGEN.fullmatch(name):
        return (procgen_cpu if match["size"] else procgen)(match["game"], match["arm"])
    if match := _MUJOCO.fullmatch(name):
        return mujoco(match["body"], match["shown"], match["arm"])
    if match := _TASK.fullmatch(name):
        return TASK_SUITES[match["suite"]](match["task"], match["arm"])
    games = ("atari_breakout", "procgen_chaser")
    examples = [f"{game}_{arm}{cpu}" for game in games for arm in VARIANTS for cpu in ("", "_cpu")]
    near = get_close_matches(
        name,
        examples + [f"{suite}_{arm}" for suite in ("cartpole", "gym", "memory") for arm in VARIANTS],
        n=1,
    )
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown preset {name!r}.{hint} Presets: {'; '.join(preset_patterns())}")
