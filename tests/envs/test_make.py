from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from configs.schema import AtariConfig, EnvConfig, MemoryConfig
from envs.make import _settings, check_env, env_spec, make_vec
from envs.registry import SUITES, suite_of
from envs.spec import EnvError


def test_the_prefix_chooses_the_suite() -> None:
    assert suite_of("ALE/Pong-v5").name == "atari"
    assert suite_of("cartpole/full").name == "cartpole"
    assert suite_of("counting/3").name == "counting"
    assert suite_of("memory/copy").name == "memory/copy"
    assert suite_of("CartPole-v1").name == "gymnasium"
    assert suite_of("module:Id-v0").name == "gymnasium"


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("ALE/Brekout-v5", "'atari' has no such environment; did you mean ALE/Breakout-v5"),
        ("ALE/Breakout-v4", "did you mean ALE/Breakout-v5"),
        ("ale/breakout-v5", "did you mean ALE/Breakout-v5"),
        ("cartpole/mask", "did you mean cartpole/masked"),
        ("cartpole", "did you mean"),
        ("memory/tmaz", "did you mean memory/tmaze"),
        ("memory/tmaze2", "did you mean memory/tmaze"),
        ("memory/copying", "did you mean memory/copy"),
        ("cartpole/zzzzzzzzzzzzzzzzzzz", "it has, for example, cartpole/full"),
    ],
)
def test_unknown_ids_are_refused_with_near_names(env_id: str, message: str) -> None:
    for check in (check_env, make_vec, env_spec):
        with pytest.raises(EnvError, match=message):
            check(EnvConfig(id=env_id))


@pytest.mark.parametrize(
    ("env_id", "field", "value"),
    [
        ("cartpole/full", "sticky_actions", 0.25),
        ("cartpole/full", "num_threads", 2),
        ("counting/3", "life_loss_ends_episode", True),
        ("CartPole-v1", "max_episode_frames", 1000),
        ("MountainCar-v0", "fire_reset", False),
        ("CartPole-v1", "noop_max", 0),
    ],
)
def test_a_setting_without_effect_is_refused(env_id: str, field: str, value: object) -> None:
    with pytest.raises(EnvError, match=rf"env\.{field} = {value!r} cannot take effect: {env_id}"):
        check_env(EnvConfig(id=env_id, **{field: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("env_id", "options", "name"),
    [
        ("cartpole/full", {"delay": 5}, "memory.delay"),
        ("memory/tmaze", {"delay": 5}, "memory.delay"),
        ("memory/copy", {"quiet": 3}, "memory.quiet"),
        ("memory/trace_conditioning", {"num_cues": 3}, "memory.num_cues"),
        ("memory/chain", {"num_cues": 3}, "memory.num_cues"),
        ("memory/copy", {"cued": True}, "memory.cued"),
        ("memory/endless_tmaze", {"delay": 3}, "memory.delay"),
        ("CartPole-v1", {"random_phase": False}, "memory.random_phase"),
    ],
)
def test_an_option_of_another_memory_task_is_refused(env_id: str, options: dict, name: str) -> None:
    with pytest.raises(EnvError, match=rf"env\.{name} = .* cannot take effect: {env_id}"):
        check_env(EnvConfig(id=env_id, memory=MemoryConfig(**options)))


@pytest.mark.parametrize("options", [{"frame_stack": 1}, {"frame_skip": 2}, {"size": 64}, {"colour": True}])
def test_how_atari_is_shown_is_asked_of_atari_only(options: dict) -> None:
    config = EnvConfig(id="procgen/chaser", atari=AtariConfig(**options))
    with pytest.raises(EnvError, match=rf"env\.atari\.{next(iter(options))} = .* cannot take effect"):
        check_env(config)
    for field in ("frame_stack", "frame_skip", "size"):
        with pytest.raises(ValueError, match=rf"env\.atari\.{field} = 0"):
            AtariConfig(**{field: 0})


def test_every_field_of_the_config_takes_effect_somewhere() -> None:
    used = {"id", "num_envs"}.union(*(suite.fields for suite in SUITES))
    names = {"id", *(name for name, _, _ in _settings(EnvConfig(id="x"))), "num_envs"}
    assert used == names


ROOT = Path(__file__).resolve().parents[2]


def in_a_fresh_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


WITHOUT_GYMNASIUM = """
import sys
for name in ("gymnasium", "ale_py"):
    sys.modules[name] = None
from configs.schema import EnvConfig, MemoryConfig
from envs.make import make_vec
from envs.spec import EnvError
make_vec(EnvConfig(id="cartpole/full")).reset(0)
make_vec(EnvConfig(id="counting/3")).reset(0)
make_vec(EnvConfig(id="memory/tmaze")).reset(0)
for env_id in ("ALE/Pong-v5", "CartPole-v1", "cartpole/nothing-like-it"):
    try:
        make_vec(EnvConfig(id=env_id))
    except EnvError as error:
        print(error)
"""


def test_a_missing_package_is_named_and_hinders_no_other_suite() -> None:
    atari, gym, cartpole = in_a_fresh_interpreter(WITHOUT_GYMNASIUM).splitlines()
    assert "'ALE/Pong-v5' needs the package 'ale_py', which is not installed: pip install" in atari
    assert "'CartPole-v1' needs the package 'gymnasium', which is not installed: pip install" in gym
    assert "cartpole/" in cartpole


def test_the_own_suites_import_no_env_package() -> None:
    in_a_fresh_interpreter(
        "import sys; from configs.schema import EnvConfig; from envs.make import make_vec\n"
        "make_vec(EnvConfig(id='cartpole/masked')); make_vec(EnvConfig(id='memory/tmaze'))\n"
        "assert not {'gymnasium', 'ale_py', 'torch'} & set(sys.modules)"
    )
