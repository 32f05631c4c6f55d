"""A Gymnasium env that has everything at once: an image, a text, a vector, continuous actions, memory.

`tests.parts_env:Target-v0`. The first observation of an episode shows the target, a number in [-1, 1], as a
half-plane of the image, as a word and in the vector; the second shows nothing. The second action earns
1 - |action - target|, by its first dimension; the second dimension has no effect.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

WORDS = ("left", "right")


class Target(gymnasium.Env[dict[str, Any], np.ndarray]):
    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            image=spaces.Box(0, 255, (16, 16, 3), np.uint8),
            word=spaces.Text(8, min_length=0),
            number=spaces.Box(-1.0, 1.0, (1,)),
        )
        self.action_space = spaces.Box(-2.0, 2.0, (2,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._target = float(self.np_random.choice([-0.75, 0.75]))
        self._count = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._count += 1
        reward = 1.0 - abs(float(action[0]) / 2.0 - self._target) if self._count == 2 else 0.0
        return self._observe(), reward, self._count == 2, False, {}

    def _observe(self) -> dict[str, Any]:
        image, shown, right = np.zeros((16, 16, 3), np.uint8), self._count == 0, self._target > 0
        if shown:
            image[:, 8 * right : 8 * right + 8] = 255
        number = np.full(1, self._target * shown, np.float32)
        return {"image": image, "word": WORDS[right] if shown else "", "number": number}


gymnasium.register("Target-v0", Target)
