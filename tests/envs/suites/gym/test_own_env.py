"""A user's own environment: its arguments, its wrappers, and modules whose names are ours too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from configs.presets import preset
from configs.schema import Config, ConfigError, EnvConfig
from configs.variants import VARIANTS
from envs.make import check_env, env_spec, make_drawn, make_vec
from envs.spec import EnvError

ROOT = Path(__file__).resolve().parents[4]
MAZE = """
import gymnasium
from gymnasium.spaces import Box, Discrete

class Maze(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, size=3, walls=(), render_mode=None):
        self.observation_space, self.action_space = Box(-1.0, 1.0, (size, 1 + len(walls))), Discrete(2)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 1.0, False, False, {}

gymnasium.register("Maze-v0", Maze)

def flat(env):
    return gymnasium.wrappers.FlattenObservation(env)

def doubled(env):
    space = Box(-2.0, 2.0, (2 * env.observation_space.shape[0],))
    return gymnasium.wrappers.TransformObservation(env, lambda seen: [*seen, *seen], space)

def nothing(env):
    return None
"""


@pytest.fixture
def maze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "users_maze.py").write_text(MAZE)
    monkeypatch.syspath_prepend(tmp_path)
    return "users_maze:Maze-v0"


def test_arguments_reach_the_constructor(maze: str) -> None:
    config = EnvConfig(id=maze, num_envs=2, kwargs='{"size": 9, "walls": ["a", "b"]}')
    assert env_spec(config).observation_shape == (9, 3)
    env = make_drawn(config)
    assert env.spec.observation_shape == (9, 3)
    env.close()
    whole = Config(env=config, num_streams=2, batch_size=2, num_actors=1)
    assert Config.from_json(whole.to_json()) == whole


def test_wrappers_are_put_on_from_the_inside(maze: str) -> None:
    options: Any = {"wrappers": "users_maze:flat, users_maze:doubled", "kwargs": '{"walls": [1]}'}
    env = make_vec(EnvConfig(id=maze, **options))
    assert env.spec.observation_shape == (12,)
    seen = env.reset(0)[0]
    assert (seen[:6] == seen[6:]).all()
    flat = EnvConfig(id=maze, wrappers="gymnasium.wrappers:FlattenObservation")
    assert env_spec(flat).observation_shape == (3,)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kwargs": "size=9"}, ConfigError, r"env\.kwargs = 'size=9': needs a JSON object"),
        ({"kwargs": "[9]"}, ConfigError, r"env\.kwargs = '\[9\]': needs a JSON object"),
        ({"kwargs": '{"sze": 9}'}, EnvError, r"env\.kwargs = .*unexpected keyword argument 'sze'"),
        ({"wrappers": "users_maze"}, ConfigError, "'users_maze' is not of the form module:function"),
        (
            {"wrappers": "users_maze:flt"},
            EnvError,
            r"env\.wrappers = .*: .*'users_maze' has no function 'flt'",
        ),
        (
            {"wrappers": "nowhere:flat"},
            EnvError,
            r"env\.wrappers = .*the module 'nowhere' cannot be imported",
        ),
        ({"wrappers": "users_maze:nothing"}, EnvError, "users_maze:nothing returned None, expected an env"),
    ],
)
def test_what_cannot_be_made_so_is_refused(maze: str, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make_vec(EnvConfig(id=maze, **options))


def test_what_a_module_brings_is_suggested_and_nothing_under_its_name_besides(maze: str) -> None:
    with pytest.raises(EnvError, match=r"did you mean users_maze:Maze-v0\?$"):
        check_env(EnvConfig(id="users_maze:Maz-v0"))
    with pytest.raises(EnvError) as refused:
        check_env(EnvConfig(id="users_maze:CartPol-v1"))
    assert "users_maze:CartPole" not in str(refused.value)


@pytest.mark.parametrize("options", [{"kwargs": '{"a": 1}'}, {"wrappers": "a:b"}])
def test_other_suites_take_none(options: Any) -> None:
    with pytest.raises(EnvError, match=r"cannot take effect: cartpole/full"):
        check_env(EnvConfig(id="cartpole/full", **options))


def users(tmp_path: Path, files: dict[str, str], *env_ids: str) -> list[dict[str, Any]]:
    """What becomes of `env_ids` in a process whose PYTHONPATH has the user's `files`: shapes, or errors."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    code = (
        "import json, sys\nfrom configs.schema import EnvConfig\nfrom envs.make import env_spec\n"
        "from envs.spec import EnvError\n"
        "for env_id in sys.argv[1:]:\n"
        "    try:\n        print(json.dumps({'shape': env_spec(EnvConfig(id=env_id)).observation_shape}))\n"
        "    except EnvError as error:\n        print(json.dumps({'error': str(error)}))\n"
    )
    script = tmp_path / "main.py"  # as launch.py's, its own folder comes first; here it is the root that does
    script.write_text(f"import sys; sys.path[0] = {str(ROOT)!r}\n{code}")
    done = subprocess.run(
        [sys.executable, str(script), *env_ids],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_package_called_like_one_of_ours_is_found_or_the_name_is_told(tmp_path: Path) -> None:
    files = {
        "envs/__init__.py": "",
        "envs/maze.py": "from envs.walls import SIZE\n" + MAZE.replace("size=3", "size=SIZE"),
        "envs/walls.py": "SIZE = 4",
        "envs/suites/own/maze.py": MAZE.replace("Maze-v0", "Deep-v0"),
        "envs/spec.py": MAZE.replace("Maze-v0", "Hidden-v0"),
        "play.py": MAZE.replace("Maze-v0", "Play-v0"),
    }
    ids = (
        "envs.maze:Maze-v0",
        "envs.suites.own.maze:Deep-v0",
        "envs.spec:Hidden-v0",
        "play:Play-v0",
        "envs.no:X-v0",
    )
    found, deep, hidden, play, absent = users(tmp_path, files, *ids)
    assert (found, deep) == ({"shape": [4, 1]}, {"shape": [3, 1]})
    for refused, name in ((hidden, "envs"), (play, "play"), (absent, "envs")):
        words = f"the name {name!r} is taken by Evertrace's own {name}, which hides the one in {tmp_path}"
        assert words in refused["error"], refused


@pytest.mark.parametrize("arm", VARIANTS)
def test_a_preset_fits_any_id(arm: str) -> None:
    config = preset(f"gym_{arm}")
    assert config.preset == f"gym_{arm}" and config.policy.encoder == "auto"
    assert env_spec(config.env).id == "CartPole-v1"
