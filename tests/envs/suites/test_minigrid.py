"""MiniGrid's view as computed here, against the package's own, of every environment that it has."""

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
import pytest

from configs.schema import EnvConfig

pytest.importorskip("minigrid")

from minigrid.minigrid_env import MiniGridEnv

from envs.suites import minigrid
from envs.suites.minigrid_view import View, use_fast_view

STEPS = 150


def _play(env: gymnasium.Env[Any, Any], seed: int, steps: int = STEPS) -> tuple[int, int]:
    """Plays at random; both views at each step. In how many steps something was carried, and how many
    different directions and places were seen."""
    inner = cast(MiniGridEnv, env.unwrapped)
    rng, view, carried, places = np.random.default_rng(seed), View(inner), 0, set[tuple[int, int, int]]()
    env.reset(seed=seed)
    for _ in range(steps):
        expected, found = MiniGridEnv.gen_obs(inner), view()
        np.testing.assert_array_equal(found["image"], expected["image"], strict=True)
        assert found["direction"] == expected["direction"] and found["mission"] == expected["mission"]
        carried += inner.carrying is not None
        places.add((*map(int, inner.agent_pos), int(inner.agent_dir)))
        # Forward more often than not, so that it gets about; all of the seven.
        action = int(rng.choice([0, 1, 2, 2, 2, 2, 3, 4, 5, 5, 6]))
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return carried, len(places)


def test_the_view_of_every_environment_is_the_packages():
    carried = places = 0
    for gym_id in minigrid._GYM_IDS.values():
        env = gymnasium.make(gym_id)
        more = _play(env, seed=1)
        carried, places = carried + more[0], places + more[1]
        env.close()
    assert len(minigrid._GYM_IDS) > 60
    assert carried > 100 and places > 1_000  # it has picked things up, and looked around


@pytest.mark.parametrize(
    "options", [{"agent_view_size": 3}, {"agent_view_size": 9}, {"see_through_walls": True}]
)
def test_other_views_are_the_packages(options: dict[str, Any]):
    if "see_through_walls" not in options:
        env = gymnasium.make("MiniGrid-ObstructedMaze-2Dlh-v0", **options)
    else:
        env = gymnasium.make("MiniGrid-MultiRoom-N6-v0")
        cast(MiniGridEnv, env.unwrapped).see_through_walls = True
    _, places = _play(env, seed=2, steps=1_000)
    assert places > 15


def test_the_suite_uses_it_and_leaves_an_environment_with_a_view_of_its_own_alone():
    played = minigrid.make(EnvConfig(id="minigrid/MemoryS7", num_envs=1), 0)
    try:
        inner = cast(Any, played._envs[0].unwrapped)
        assert isinstance(inner.gen_obs, View)
        drawn = minigrid.make_drawn(EnvConfig(id="minigrid/MemoryS7", num_envs=1))
        assert drawn is not None and drawn.spec.coded == played.spec.coded
        drawn.close()
    finally:
        played.close()

    class Blind(type(inner)):
        def gen_obs(self) -> dict[str, Any]:
            return {**super().gen_obs(), "image": np.zeros((7, 7, 3), np.uint8)}

    blind = Blind(size=7)
    use_fast_view(blind)
    observation, _ = blind.reset(seed=0)
    assert not observation["image"].any()
