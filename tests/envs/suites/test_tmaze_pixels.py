"""The T-maze in pixels, read back pixel by pixel, is the T-maze; who cannot remember wins half of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.schema import EnvConfig, MemoryConfig
from envs.make import make_vec
from tests.envs.suites.test_memory import RemembersCue, returns_of

ZONES = ("start", "noisy", "junction", "quiet")


def _read(image: NDArray[np.uint8]) -> tuple[int | None, str | None]:
    """Symbol (0: lying stripes, 1: standing ones) and zone of [1, 28, 28], by loops."""
    picture, floor = image[0, :24], image[0, 24:]
    zone = None
    for number, name in enumerate(ZONES):
        block = floor[:, 7 * number : 7 * (number + 1)]
        assert block.min() == block.max(), "a block is lit as a whole"
        if block.max() == 255:
            assert zone is None
            zone = name
    if not picture.any():
        return None, zone
    rows, columns = np.nonzero(picture)
    along_rows = len(set(rows.tolist()))
    along_columns = len(set(columns.tolist()))
    assert sorted((along_rows, along_columns)) == [6, 12], "half of the lines of a patch of 12"
    return (0 if along_rows == 6 else 1), zone


class ReadsPixels:
    """A policy of the T-maze's vectors, shown what was read from pixels."""

    def __init__(self) -> None:
        self.remembers = RemembersCue(2)

    def __call__(self, observation: NDArray[np.uint8]) -> NDArray[np.int64]:
        vectors = np.zeros((len(observation), 6), np.float32)
        for slot, image in enumerate(observation):
            symbol, zone = _read(image)
            if symbol is not None:
                vectors[slot, symbol] = 1
            if zone is not None:
                vectors[slot, 2 + ZONES.index(zone)] = 1
        return self.remembers(vectors)


def _make(num_envs: int, **options: int | bool):
    memory = MemoryConfig(**options)
    return make_vec(EnvConfig(id="memory/tmaze_pixels", num_envs=num_envs, memory=memory))


def test_the_zones_follow_each_other_and_symbols_are_where_they_belong() -> None:
    env = _make(1, length_min=5, length_max=5, quiet=2, jitter=6, random_phase=False)
    image, seen, places = env.reset(3), [], set()
    for _ in range(16):
        symbol, zone = _read(image[0])
        seen.append((symbol is not None, zone))
        if symbol is not None:
            rows, columns = np.nonzero(image[0, 0, :24])
            places.add((rows.min(), columns.min()))
        image = env.step(np.zeros(1, np.int64)).observation
    noisy, quiet = [(True, "noisy")] * 3, [(False, "quiet")] * 2
    episode = [(True, "start"), *noisy, *quiet, (False, "junction"), (False, None)]
    assert seen == episode * 2
    assert len(places) > 4, "the patch lies somewhere else at every step"


def test_who_reads_and_remembers_wins_every_game() -> None:
    returns = returns_of(_make(8, jitter=3), ReadsPixels(), 200)
    assert len(returns) > 50
    assert set(returns) == {1.0}


@pytest.mark.parametrize("action", [0, 1])
def test_who_does_not_wins_half(action: int) -> None:
    returns = returns_of(_make(64), lambda images: np.full(len(images), action), 700)
    assert abs(np.mean(returns)) < 4 / np.sqrt(len(returns))


def test_any_number_of_symbols_look_different() -> None:
    env = _make(64, num_cues=5, random_phase=False)
    images = env.reset(0)[:, 0, :24]
    looks = set()
    for image in images:
        rows, columns = np.nonzero(image)
        looks.add(image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].tobytes())
    assert len(looks) == 5


def test_without_jitter_a_symbol_keeps_its_place() -> None:
    env = _make(32, random_phase=False)
    for image in env.reset(0):
        rows, columns = np.nonzero(image[0, :24])
        assert (rows.min() in (6, 7, 8), columns.min() in (8, 9, 10)) == (True, True)
        assert rows.max() < 18 and columns.max() < 20
