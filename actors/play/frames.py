"""Drawing what a policy sees, does and expects: one frame of a video for each moment that was watched.

+-----------------+   the env's own picture where it has one; else the newest image of the observation;
|     picture     |   else a heat map of its numbers, a row each, the newest column at the right
+-----------------+
| step, return    |
| action, value   |
| curve of values |   of the game so far
+-----------------+
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.play.watch import Moment
from actors.rollout import observation_parts
from envs.spec import EnvSpec

SIDE = 512
"""Pixels: the longer side of a picture at most, and at least half of that if it is enlarged."""
COLUMNS = 64
"""Steps that a heat map shows."""
ROWS_HEIGHT = 320
"""Pixels of a heat map."""
MIN_WIDTH, CURVE_HEIGHT, LINE, MARGIN = 320, 72, 20, 8
"""Pixels"""
BACKGROUND, TEXT, FAINT, CURVE = (16, 18, 24), (235, 235, 235), (90, 95, 105), (255, 176, 32)


class Screen:
    """Draws the moments of one env, in their order. All frames have one size, even in both directions."""

    def __init__(self, spec: EnvSpec) -> None:
        self._names, self._stacked = spec.action_names, spec.frames_stacked
        self._game = 0
        self._values: list[float] = []
        self._columns: deque[NDArray[np.float32]] = deque(maxlen=COLUMNS)
        self._largest: Any = 0.0

    def frame(self, moment: Moment) -> NDArray[np.uint8]:
        """[H, W, 3]"""
        from PIL import Image, ImageDraw, ImageFont

        if moment.game != self._game:
            self._game, self._largest = moment.game, 0.0
            self._values.clear()
            self._columns.clear()
        if moment.value is not None:
            self._values.append(moment.value)
        picture = self._fit(self._picture(moment))
        width = max(MIN_WIDTH, picture.width + picture.width % 2)
        top = picture.height + picture.height % 2
        canvas = Image.new("RGB", (width, top + 2 * LINE + CURVE_HEIGHT + 2 * MARGIN), BACKGROUND)
        canvas.paste(picture, ((width - picture.width) // 2, 0))
        draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
        for row, text in enumerate(caption(moment, self._names)):
            draw.text((MARGIN, top + 4 + row * LINE), text, fill=TEXT, font=font)
        self._draw_curve(draw, width, top + 2 * LINE + MARGIN)
        return np.asarray(canvas)

    def _picture(self, moment: Moment) -> NDArray[np.uint8]:
        """[h, w, 3]"""
        if moment.picture is not None:
            return moment.picture
        parts = [part for _, part in observation_parts(moment.observation)]
        image = next((part for part in parts if part.dtype == np.uint8 and part.ndim == 3), None)
        if image is not None:
            return newest_image(image, self._stacked)
        return self._heat_map(np.concatenate([part.ravel() for part in parts]).astype(np.float32))

    def _heat_map(self, numbers: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Red above 0, blue below, each row by the largest number that it has had in this game."""
        self._columns.append(numbers)
        self._largest = np.maximum(self._largest, np.abs(numbers))
        scaled = np.zeros((len(numbers), COLUMNS), np.float32)
        scaled[:, -len(self._columns) :] = np.stack(list(self._columns), 1)
        scaled /= np.maximum(self._largest, 1e-8)[:, None]
        colours = np.stack([scaled.clip(0, 1), np.abs(scaled) / 3, (-scaled).clip(0, 1)], -1)
        tall = np.repeat(colours, max(1, ROWS_HEIGHT // len(numbers)), 0)
        return np.repeat(tall * 255, SIDE // COLUMNS, 1).astype(np.uint8)

    @staticmethod
    def _fit(picture: NDArray[np.uint8]) -> Any:
        """As a Pillow image: enlarged by a whole factor, each pixel a square; too large a one is shrunk."""
        from PIL import Image

        image, longer = Image.fromarray(picture), max(picture.shape[:2])
        if longer > SIDE:
            size = [max(1, round(side * SIDE / longer)) for side in image.size]
            return image.resize((size[0], size[1]), Image.Resampling.BOX)
        factor = SIDE // longer
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)

    def _draw_curve(self, draw: Any, width: int, top: int) -> None:
        """The values of the game so far, or of its last steps, between their smallest and their largest."""
        from PIL import ImageFont

        left = 64
        room = width - left - MARGIN
        values = self._values[-room:]
        pixels = min(6.0, room / len(values))
        low, high = min(values), max(values)
        span = max(high - low, 1e-6)

        def at(value: float) -> float:
            return top + CURVE_HEIGHT - 1 - (value - low) / span * (CURVE_HEIGHT - 1)

        if low < 0.0 < high:
            draw.line([(left, at(0.0)), (width - MARGIN, at(0.0))], fill=FAINT)
        small = ImageFont.load_default(11)
        for value, y in ((high, top - 2), (low, top + CURVE_HEIGHT - 12)):
            draw.text((MARGIN, y), f"{value:+.3g}", fill=FAINT, font=small)
        points = [(left + x * pixels, at(value)) for x, value in enumerate(values)]
        draw.line(points, fill=CURVE, width=2)
        x, y = points[-1]
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=CURVE)


def caption(moment: Moment, action_names: Sequence[str]) -> tuple[str, str]:
    """The two lines of text below the picture. An action without a name is a number; of a continuous one the
    first six."""
    first = f"game {moment.game}   step {moment.step}   return {moment.episodic_return:g}"
    if moment.ended is not None:
        return first, f"end of the game: {moment.ended}"
    if isinstance(moment.action, np.ndarray):
        action = " ".join(f"{number:+.2f}" for number in moment.action[:6])
        action += " ..." if len(moment.action) > 6 else ""
    else:
        assert moment.action is not None
        action = action_names[moment.action] if action_names else str(moment.action)
    return first, f"value {moment.value:+.3f}   action {action}"


def newest_image(observation: NDArray[np.uint8], stacked: int = 1) -> NDArray[np.uint8]:
    """[h, w, 3] of [C, h, w], which holds `stacked` images over time: three channels of the newest are
    colours, of any other number the last one is shown in grey."""
    newest = observation[-(len(observation) // stacked) :]
    if len(newest) == 3:
        return np.ascontiguousarray(np.moveaxis(newest, 0, -1))
    return np.repeat(newest[-1][:, :, None], 3, axis=2)
