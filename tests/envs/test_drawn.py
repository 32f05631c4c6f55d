"""Envs that draw themselves for people, and the names of actions."""

from __future__ import annotations

import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from actors.play.watch import watch
from actors.policy import Policy
from configs.schema import EnvConfig, PolicyConfig
from envs.make import make_drawn, make_vec
from envs.spec import Drawable, EnvError


class Plain(gymnasium.Env[Any, Any]):
    """Draws the number of its steps; or fails to, as on a machine without a display."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (Gymnasium's own declaration)

    def __init__(self, render_mode: str | None = None, display: bool = True) -> None:
        self.observation_space, self.action_space = Box(-1.0, 1.0, (2,)), Discrete(2)
        self.render_mode, self.display = render_mode, display

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.steps += 1
        return np.zeros(2, np.float32), 0.0, False, False, {}

    def render(self) -> Any:
        if not self.display:
            raise RuntimeError("no display")
        return np.full((8, 6, 3), self.steps, np.uint8)


class Freely(Plain):
    drawn: Any = None
    stepped = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        Freely.stepped += 1
        return super().step(action)

    def render(self) -> Any:
        return Freely.drawn


gymnasium.register("DrawnFreely-v0", Freely, disable_env_checker=True)
gymnasium.register("Drawn-v0", Plain, disable_env_checker=True)
gymnasium.register("DrawnBlind-v0", Plain, kwargs={"display": False}, disable_env_checker=True)
gymnasium.register("DrawnNever-v0", Plain, disable_env_checker=True)


def test_a_picture_is_of_the_present_state() -> None:
    env = make_drawn(EnvConfig(id="Drawn-v0", num_envs=3))
    assert isinstance(env, Drawable) and env.num_envs == 1
    env.reset(seed=1)
    for step in range(3):
        picture = env.draw()
        assert picture.shape == (8, 6, 3) and picture.dtype == np.uint8 and (picture == step).all()
        env.step(np.zeros(1, np.int64))
    env.close()


GREY = np.arange(48, dtype=np.uint8).reshape(8, 6)
COLOURS = np.arange(144, dtype=np.uint8).reshape(8, 6, 3)


@pytest.mark.parametrize(
    ("drawn", "shown"),
    [
        (COLOURS, COLOURS),
        (COLOURS.astype(np.int64), COLOURS),
        (COLOURS / np.float64(255), COLOURS),
        ((COLOURS / 255).astype(np.float32), COLOURS),
        (GREY, GREY[:, :, None].repeat(3, 2)),
        (GREY[:, :, None], GREY[:, :, None].repeat(3, 2)),
        (GREY / np.float32(255), GREY[:, :, None].repeat(3, 2)),
        (GREY > 20, 255 * (GREY > 20)[:, :, None].repeat(3, 2)),
        (np.concatenate([COLOURS, np.full((8, 6, 1), 255, np.uint8)], 2), COLOURS),
        (COLOURS.tolist(), COLOURS),
    ],
)
def test_what_an_env_draws_is_read_as_people_see_it(drawn: Any, shown: np.ndarray) -> None:
    env = make_drawn(EnvConfig(id="DrawnFreely-v0"))
    assert isinstance(env, Drawable)
    Freely.drawn = drawn
    env.reset(seed=1)
    picture = env.draw()
    assert picture.dtype == np.uint8 and picture.flags.c_contiguous
    np.testing.assert_array_equal(picture, shown)
    env.close()


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (None, "None: its render() draws nothing"),
        (COLOURS.astype(np.float32), "float32[8, 6, 3] from 0 to 143"),
        (COLOURS.astype(np.int64) - 1, "int64[8, 6, 3] from -1 to 142"),
        (np.full((8, 6), np.nan), "float64[8, 6] from nan to nan"),
        (np.zeros((8, 6, 2), np.uint8), "uint8[8, 6, 2]"),
        (np.zeros((2, 8, 6, 3), np.uint8), "uint8[2, 8, 6, 3]"),
        ([GREY, COLOURS], "list, which is no array"),
        ("a text", "<U6[]"),
    ],
)
def test_a_drawing_that_is_no_picture_is_refused_before_the_first_step(drawn: Any, words: str) -> None:
    env = make_drawn(EnvConfig(id="DrawnFreely-v0"))
    assert isinstance(env, Drawable)
    Freely.drawn, Freely.stepped = drawn, 0
    policy = Policy(env.spec, PolicyConfig(encoder="none", core="none"))
    with pytest.raises(EnvError, match=re.escape(words)) as caught:
        list(watch(env, policy, episodes=1, max_steps=3, greedy=True, seed=1))
    assert "DrawnFreely-v0" in str(caught.value) and "--observation" in str(caught.value)
    assert Freely.stepped == 0


def test_drawing_changes_nothing_of_the_game() -> None:
    drawn, plain = make_drawn(EnvConfig(id="CartPole-v1")), make_vec(EnvConfig(id="CartPole-v1"))
    assert isinstance(drawn, Drawable) and not isinstance(plain, Drawable)
    np.testing.assert_array_equal(drawn.reset(seed=4), plain.reset(seed=4))
    for step in range(40):
        action = np.array([step % 3 % 2])
        drawn.draw()
        one, other = drawn.step(action), plain.step(action)
        np.testing.assert_array_equal(one.observation, other.observation)
        assert one.terminated == other.terminated
    drawn.close()
    plain.close()


def test_an_env_without_pictures_is_made_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Plain.metadata, "render_modes", [])
    for env_id in ("DrawnNever-v0", "memory/tmaze", "ALE/Breakout-v5"):
        env = make_drawn(EnvConfig(id=env_id, num_envs=2))
        assert not isinstance(env, Drawable) and env.num_envs == 1
        env.close()


def test_an_unknown_env_is_refused_as_ever() -> None:
    with pytest.raises(EnvError, match="NoSuchEnv-v0"):
        make_drawn(EnvConfig(id="NoSuchEnv-v0"))


def test_a_machine_that_cannot_draw_says_so() -> None:
    env = make_drawn(EnvConfig(id="DrawnBlind-v0"))
    env.reset(seed=1)
    assert isinstance(env, Drawable)
    with pytest.raises(
        EnvError, match=r"'DrawnBlind-v0' cannot draw itself here: no display\nAdd --observation"
    ):
        env.draw()
    env.close()


def test_the_suites_of_gymnasium_draw() -> None:
    pytest.importorskip("minigrid")
    env = make_drawn(EnvConfig(id="minigrid/MemoryS7"))
    assert isinstance(env, Drawable)
    env.reset(seed=1)
    before = env.draw()
    env.step(np.zeros(1, np.int64))  # turns left
    assert before.ndim == 3 and len(np.unique(before)) > 3 and (env.draw() != before).any()
    env.close()


def test_a_body_of_mujoco_can_be_drawn() -> None:
    """Without drawing it, which needs a graphics library."""
    pytest.importorskip("mujoco")
    env = make_drawn(EnvConfig(id="mujoco/Hopper-P"))
    assert isinstance(env, Drawable)
    env.close()


@pytest.mark.parametrize(("whole", "count"), [(False, 4), (True, 18)])
def test_atari_names_its_actions(whole: bool, count: int) -> None:
    env = make_vec(EnvConfig(id="ALE/Breakout-v5", full_action_space=whole))
    assert len(env.spec.action_names) == env.spec.num_actions == count
    assert env.spec.action_names[:4] == (
        ("NOOP", "FIRE", "UP", "RIGHT") if whole else ("NOOP", "FIRE", "RIGHT", "LEFT")
    )
    env.close()
