"""Which suites there are: the prefix of an env id, the module behind it, its options, and what it needs.

A suite is a module, imported when it is asked for (envs/make.py), so that a suite whose package is missing
hinders no other.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

_PYTHON = ".".join(platform.python_version_tuple()[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A family of environments that share a prefix of the id and a set of options."""

    name: str
    prefix: str
    """Of the env id; "" takes every id that no other suite claims."""
    module: str
    fields: frozenset[str] = frozenset()
    """Fields of EnvConfig that take effect here, besides `id` and `num_envs`; `memory.delay` is nested."""
    packages: tuple[str, ...] = ()
    """Import names that the module needs besides NumPy."""
    install: str = ""
    """The command that installs them."""
    programs: tuple[str, ...] = ()
    """Programs of the system that it runs, each of the Debian package of its name."""
    steps_together: bool = False
    """The slots of an env belong together: they run at the same time, or are not all alike. Elsewhere two
    envs of one slot each are as good as one of two, and either can be left by itself."""
    backends: tuple[str, ...] = ()
    """Alternatives of which one is enough. The module's `obstacle(backend)` is what keeps one from running
    here, with the command that mends it, or None."""


_CORRIDOR = frozenset(
    {"memory.length_min", "memory.length_max", "memory.quiet", "memory.num_cues", "memory.random_phase"}
)

SUITES: tuple[Suite, ...] = (
    Suite(
        name="atari",
        prefix="ALE/",
        module="envs.suites.atari",
        fields=frozenset(
            {
                "num_threads",
                "max_episode_frames",
                "sticky_actions",
                "full_action_space",
                "noop_max",
                "life_loss_ends_episode",
                "fire_reset",
                "atari.frame_stack",
                "atari.frame_skip",
                "atari.size",
                "atari.colour",
            }
        ),
        packages=("ale_py", "gymnasium"),
        install="pip install -c constraints.txt ale-py gymnasium",
    ),
    Suite(name="cartpole", prefix="cartpole/", module="envs.suites.cartpole"),
    Suite(name="counting", prefix="counting/", module="envs.suites.counting", steps_together=True),
    Suite(
        name="memory/tmaze_pixels",
        prefix="memory/tmaze_pixels",
        module="envs.suites.memory.tmaze_pixels",
        fields=_CORRIDOR | {"memory.jitter"},
    ),
    Suite(
        name="memory/tmaze",
        prefix="memory/tmaze",
        module="envs.suites.memory.tmaze",
        fields=_CORRIDOR,
    ),
    Suite(
        name="memory/endless_tmaze",
        prefix="memory/endless_tmaze",
        module="envs.suites.memory.endless_tmaze",
        fields=_CORRIDOR,
    ),
    Suite(
        name="memory/act_now",
        prefix="memory/act_now",
        module="envs.suites.memory.act_now",
        fields=frozenset({"memory.num_cues", "memory.random_phase", "memory.delay", "memory.cued"}),
    ),
    Suite(
        name="memory/chain",
        prefix="memory/chain",
        module="envs.suites.memory.chain",
        fields=frozenset({"memory.random_phase", "memory.delay"}),
    ),
    Suite(
        name="memory/copy",
        prefix="memory/copy",
        module="envs.suites.memory.copy_task",
        fields=frozenset({"memory.num_cues", "memory.random_phase", "memory.symbols", "memory.delay"}),
    ),
    Suite(
        name="memory/trace_conditioning",
        prefix="memory/trace_conditioning",
        module="envs.suites.memory.trace_conditioning",
        steps_together=True,  # its episodes are all of one length
        fields=frozenset(
            {
                "memory.interval_min",
                "memory.interval_max",
                "memory.pause_min",
                "memory.pause_max",
                "memory.distractors",
                "memory.episode_steps",
            }
        ),
    ),
    Suite(
        name="dmlab",
        prefix="dmlab/",
        module="envs.suites.dmlab.env",
        steps_together=True,
        fields=frozenset(
            {
                "num_threads",
                "dmlab.width",
                "dmlab.height",
                "dmlab.action_repeat",
                "dmlab.actions",
                "dmlab.renderer",
                "dmlab.held_out",
                "dmlab.level_cache",
                "dmlab.num_maps",
                "dmlab.reset_ahead",
                "dmlab.dataset_path",
                "dmlab.extra_observations",
            }
        ),
        packages=("deepmind_lab",),
        install=(
            "no package index has it; build it. The shortest way is dmlab-gym's container, with Python "
            f"{_PYTHON}: git clone https://github.com/Achronus/dmlab-gym, there `sed -i "
            f"'s/3\\.13/{_PYTHON}/g' Dockerfile.build`, `docker build -t dmlab -f Dockerfile.build .`, "
            "`docker run --rm -v $PWD:/build/lab dmlab sh -c 'bazel build -c opt --define headless=osmesa "
            "//python/pip_package:build_pip_package && bazel-bin/python/pip_package/build_pip_package "
            "/build/lab/wheel'` and `pip install wheel/deepmind_lab-*.whl`. Without a container, with Bazel: "
            "git clone https://github.com/google-deepmind/lab, "
            "there `bazel build -c opt --cxxopt=-std=c++17 //python/pip_package:build_pip_package`, then "
            "`PYTHON_BIN_PATH=$(which python3) bazel-bin/python/pip_package/build_pip_package DIR` and "
            "`pip install DIR/deepmind_lab-*.whl` (envs/suites/dmlab/env.py lists what the build needs)"
        ),
        programs=("zip",),
    ),
    Suite(
        name="procgen",
        prefix="procgen/",
        module="envs.suites.procgen.env",
        fields=frozenset(
            {
                "num_threads",
                "procgen.num_levels",
                "procgen.start_level",
                "procgen.distribution_mode",
                "procgen.backend",
            }
        ),
        backends=("envpool", "procgen"),
    ),
    Suite(
        name="popgym",
        prefix="popgym/",
        module="envs.suites.popgym",
        packages=("gymnasium", "popgym"),
        install="pip install -c constraints.txt gymnasium popgym",
    ),
    Suite(
        name="minigrid",
        prefix="minigrid/",
        module="envs.suites.minigrid",
        packages=("gymnasium", "minigrid"),
        install="pip install -c constraints.txt gymnasium minigrid",
    ),
    Suite(
        name="mujoco",
        prefix="mujoco/",
        module="envs.suites.mujoco",
        packages=("gymnasium", "mujoco"),
        install="pip install -c constraints.txt gymnasium mujoco",
    ),
    Suite(
        name="vizdoom",
        prefix="vizdoom/",
        module="envs.suites.vizdoom",
        fields=frozenset({"vizdoom.frame_skip"}),
        packages=("gymnasium", "vizdoom"),
        install="pip install -c constraints.txt gymnasium vizdoom",
    ),
    Suite(
        name="gymnasium",
        prefix="",
        module="envs.suites.gym.env",
        fields=frozenset({"kwargs", "wrappers"}),
        packages=("gymnasium",),
        install="pip install -c constraints.txt gymnasium",
    ),
)
"""Searched in order: the first whose prefix fits takes the id."""


def suite_of(env_id: str) -> Suite:
    return next(suite for suite in SUITES if env_id.startswith(suite.prefix))
