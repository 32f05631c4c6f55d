"""Frames: the right image of an observation, enlarged to the pixel; the text; the curve of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actors.play.frames import COLUMNS, CURVE, CURVE_HEIGHT, MARGIN, Screen, caption, newest_image
from actors.play.watch import Moment
from envs.spec import EnvSpec

RANDOM = np.random.default_rng(1)
SPEC = EnvSpec(
    id="x",
    observation_shape=(4, 84, 84),
    observation_dtype="uint8",
    num_actions=2,
    action_names=("UP", "DOWN"),
)


def _moment(observation: Any = None, **changes: Any) -> Moment:
    given = {"game": 1, "step": 3, "episodic_return": 2.0, "value": 0.5, "action": 1, "ended": None}
    return Moment(observation=observation, **{"picture": None, **given, **changes})


def _pixels(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, np.uint8)


def test_the_newest_frame_of_a_stack_is_enlarged_to_squares() -> None:
    stack = _pixels(4, 84, 84)
    frame = Screen(SPEC).frame(_moment(stack))
    assert frame.shape[1] == 504 and frame.shape[0] % 2 == frame.shape[1] % 2 == 0
    expected = stack[3].repeat(6, 0).repeat(6, 1)
    np.testing.assert_array_equal(frame[:504], expected[:, :, None].repeat(3, 2))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_three_channels_are_colours(channels: int) -> None:
    image = _pixels(channels, 5, 6)
    shown = newest_image(image)
    assert shown.shape == (5, 6, 3)
    for colour in range(3):
        np.testing.assert_array_equal(shown[..., colour], image[colour if channels == 3 else -1])


def test_of_several_parts_the_image_is_shown() -> None:
    image = _pixels(3, 64, 64)
    parts = {"text": np.arange(5), "vector": np.ones(3, np.float32), "image": image}
    frame = Screen(SPEC).frame(_moment(parts))
    np.testing.assert_array_equal(frame[:512:8, :512:8], np.moveaxis(image, 0, -1))


def test_the_env_s_own_picture_comes_first_and_a_large_one_is_shrunk() -> None:
    picture = np.full((600, 900, 3), 77, np.uint8)
    frame = Screen(SPEC).frame(_moment(_pixels(4, 84, 84), picture=picture))
    assert frame.shape[1] == 512 and (frame[:341] == 77).all()
    assert frame.shape[0] % 2 == 0


def test_numbers_are_a_heat_map_whose_newest_column_is_at_the_right() -> None:
    screen = Screen(SPEC)
    for step in range(COLUMNS + 5):
        numbers = np.array([step, -2.0, 0.0, 4.0 if step % 2 else -4.0], np.float32)
        frame = screen.frame(_moment(numbers, step=step))
    cells = frame[40:320:80, 4:512:8].astype(int)
    assert (cells[0, :, 0] == np.arange(5, COLUMNS + 5) * 255 // (COLUMNS + 4)).all(), "grows to the right"
    assert (cells[1] == [0, 85, 255]).all(), "below 0 is blue"
    assert (cells[2] == 0).all()
    assert (cells[3, 1::2, 2] == 255).all() and (cells[3, ::2, 0] == 255).all()
    assert (screen.frame(_moment(numbers, game=2))[40:320:80, 4:500:8] == 0).all(), "a new game begins anew"


def test_the_text_names_the_action_and_tells_the_numbers() -> None:
    assert caption(_moment(), ("UP", "DOWN")) == ("game 1   step 3   return 2", "value +0.500   action DOWN")
    assert caption(_moment(), ())[1].endswith("action 1")
    action = np.array([0.25, -1.0], np.float32)
    assert caption(_moment(action=action), ())[1].endswith("action +0.25 -1.00")
    assert caption(_moment(action=np.zeros(7, np.float32)), ())[1].endswith(" +0.00 ...")
    end = _moment(value=None, action=None, ended="truncation", episodic_return=-0.5)
    assert caption(end, ("UP", "DOWN")) == ("game 1   step 3   return -0.5", "end of the game: truncation")


def test_the_text_is_drawn() -> None:
    frames = [Screen(SPEC).frame(_moment(np.zeros((4, 84, 84), np.uint8), action=a)) for a in (0, 1)]
    changed = np.argwhere((frames[0] != frames[1]).any(-1))
    assert len(changed) > 20 and (changed[:, 0] >= 504 + 20).all() and (changed[:, 0] < 504 + 44).all()


def _curve(frame: np.ndarray) -> np.ndarray:
    """[n, 2] rows and columns of the curve's pixels, in the band below the text."""
    band = frame[-CURVE_HEIGHT - MARGIN :]
    return np.argwhere((band == CURVE).all(-1))


def test_the_curve_follows_the_value() -> None:
    screen = Screen(SPEC)
    frames = [
        screen.frame(_moment(np.zeros((4, 84, 84), np.uint8), step=step, value=value))
        for step, value in enumerate([0.0, 1.0, -1.0, 1.0, 0.0])
    ]
    newest = []
    for frame in frames[1:]:
        points = _curve(frame)
        newest.append(points[points[:, 1] >= points[:, 1].max() - 3][:, 0].mean())
    assert newest[0] < 5 and newest[1] > 60 and newest[2] < 5 and 25 < newest[3] < 45, newest
    widths = [np.ptp(_curve(frame)[:, 1]) for frame in frames]
    assert widths == sorted(widths) and widths[-1] > widths[0]


def test_the_curve_of_a_long_game_is_of_its_last_steps() -> None:
    """Else what was long ago would leave the present flat."""
    screen, number = Screen(SPEC), np.zeros(1, np.float32)
    screen.frame(_moment(number, value=100.0))
    for step in range(600):
        screen.frame(_moment(number, value=step // 50 % 2))
    frame = screen.frame(_moment(number, value=0.0))
    points = _curve(frame)
    assert np.ptp(points[:, 0]) > CURVE_HEIGHT - 5 and 490 < points[:, 1].max() < frame.shape[1]
    assert len(np.unique(points[points[:, 0] < 12][:, 1] // 50)) > 3, "high again and again"


def test_the_end_of_a_game_keeps_the_curve() -> None:
    screen, black = Screen(SPEC), np.zeros((4, 84, 84), np.uint8)
    before = [screen.frame(_moment(black, value=value)) for value in (0.0, 1.0)][-1]
    end = screen.frame(_moment(black, value=None, action=None, ended="termination"))
    np.testing.assert_array_equal(_curve(end), _curve(before))
