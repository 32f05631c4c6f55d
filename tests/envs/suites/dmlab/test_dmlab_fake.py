"""Every clause of the engine's contract, tripped once on the stand-in that the adapter is tested with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.envs.suites.dmlab import fake_deepmind_lab
from tests.envs.suites.dmlab.fake_deepmind_lab import EPISODE_FRAMES, LEVELS, Lab

ROOM = "tests/empty_room_test"
GOALS = "contributed/dmlab30/explore_goal_locations_small"
STAND, FORWARD = np.zeros(7, np.intc), np.array([0, 0, 0, 1, 0, 0, 0], np.intc)


@pytest.fixture
def make() -> Iterator[Callable[..., Lab]]:
    made: list[Lab] = []

    def build(level: str = ROOM, observations: Any = ("RGB_INTERLEAVED",), **more: Any) -> Lab:
        names = list(observations) if isinstance(observations, tuple) else observations
        made.append(Lab(level, names, **more))
        return made[-1]

    yield build
    for lab in made:
        lab.close()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"level": "tests/no_such_level"}, RuntimeError, "Failed to init environment"),
        ({"level": 3}, TypeError, "must be str"),
        ({"observations": "RGB_INTERLEAVED"}, TypeError, "must be list"),
        ({"observations": ("RGB", "INSTRUCTIONS")}, ValueError, "Unknown observation 'INSTRUCTIONS'"),
        ({"level": "tests/fake_bare", "observations": ("VEL.ROT",)}, ValueError, "Unknown observation"),
        ({"config": [("width", "96")]}, TypeError, "must be dict"),
        ({"config": {"width": 96}}, TypeError, "96 is no str"),
        ({"config": {"fps": "many"}}, RuntimeError, "Failed to apply setting"),
        ({"renderer": "cuda"}, RuntimeError, "renderer must be"),
        ({"level": "contributed/dmlab30/rooms_collect_good_objects_test"}, RuntimeError, "testing only"),
    ],
)
def test_what_it_cannot_be_made_of(
    make: Callable[..., Lab], arguments: dict, error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        make(**arguments)
    make().reset(seed=0)


def test_a_level_for_testing_needs_leave(make: Callable[..., Lab]) -> None:
    level = "contributed/dmlab30/rooms_collect_good_objects_test"
    assert make(level, config={"allowHoldOutLevels": "true"}).reset(seed=0) is True


def test_one_engine_a_process(make: Callable[..., Lab]) -> None:
    first = make()
    with pytest.raises(RuntimeError, match="one already"):
        make()
    assert first.close() is True
    assert first.close() is False
    make()


def test_a_closed_engine(make: Callable[..., Lab]) -> None:
    lab = make()
    lab.close()
    assert not lab.is_running()
    with pytest.raises(RuntimeError, match="closed"):
        lab.reset(seed=0)
    with pytest.raises(RuntimeError, match="wrong status"):
        lab.step(STAND)


def test_nothing_happens_before_the_first_reset(make: Callable[..., Lab]) -> None:
    lab = make()
    assert not lab.is_running()
    for call in (lambda: lab.step(STAND), lab.observations, lab.events):
        with pytest.raises(RuntimeError, match="wrong status"):
            call()


@pytest.mark.parametrize("seed", [np.int32(3), np.int64(3), 3.0, "3"])
def test_a_seed_is_a_python_int(make: Callable[..., Lab], seed: object) -> None:
    with pytest.raises(ValueError, match="'seed' must be int or None"):
        make().reset(seed=seed)


def test_a_seed_is_a_c_int(make: Callable[..., Lab]) -> None:
    with pytest.raises(OverflowError, match="C int"):
        make().reset(seed=2**31)


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        ([0] * 7, TypeError, "numpy.ndarray"),
        (np.zeros(7, np.int64), ValueError, "np.intc"),
        (np.zeros(6, np.intc), ValueError, "shape"),
        (np.array([513, 0, 0, 0, 0, 0, 0], np.intc), ValueError, "LOOK_LEFT_RIGHT"),
        (np.array([0, -513, 0, 0, 0, 0, 0], np.intc), ValueError, "LOOK_DOWN_UP"),
        (np.array([0, 0, 2, 0, 0, 0, 0], np.intc), ValueError, "STRAFE"),
        (np.array([0, 0, 0, 0, -1, 0, 0], np.intc), ValueError, "FIRE"),
    ],
)
def test_actions(make: Callable[..., Lab], action: Any, error: type, words: str) -> None:
    lab = make()
    lab.reset(seed=0)
    with pytest.raises(error, match=words):
        lab.step(action)


def test_an_episode_ends_inside_a_step_and_leaves_no_observation(make: Callable[..., Lab]) -> None:
    lab = make()
    lab.reset(seed=0)
    for _ in range(EPISODE_FRAMES // 4):
        assert lab.step(FORWARD, num_steps=4) == 4.0
    assert lab.is_running()
    assert lab.step(FORWARD, num_steps=4) == EPISODE_FRAMES % 4 == 2
    assert not lab.is_running()
    assert lab.num_steps() == EPISODE_FRAMES + 2, "frames asked for, as the engine counts"
    assert lab.events() == []
    with pytest.raises(RuntimeError, match="wrong status for call to observations"):
        lab.observations()
    with pytest.raises(RuntimeError, match="wrong status to advance"):
        lab.step(STAND)
    lab.reset(seed=1)
    assert lab.is_running() and lab.num_steps() == 0


def test_observations_are_fresh_and_of_their_specs(make: Callable[..., Lab]) -> None:
    names = ("RGB_INTERLEAVED", "RGB", "INSTR", "VEL.TRANS", "DEBUG.POS.TRANS")
    lab = make(observations=names, config={"width": "80", "height": "60"})
    lab.reset(seed=5)
    one, two = lab.observations(), lab.observations()
    assert list(one) == list(names) and isinstance(one["INSTR"], str)
    specs = {spec["name"]: spec for spec in lab.observation_spec()}
    for name in set(names) - {"INSTR"}:
        assert not np.shares_memory(one[name], two[name])
        assert (one[name].shape, one[name].dtype) == (specs[name]["shape"], specs[name]["dtype"])
    assert one["RGB_INTERLEAVED"].shape == (60, 80, 3)
    np.testing.assert_array_equal(one["RGB"], one["RGB_INTERLEAVED"].transpose(2, 0, 1))


class Cache:
    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, list[tuple[str, str]]()

    def path(self, key: str) -> Path:
        return self.folder / key.replace("/", "_")

    def fetch(self, key: str, pk3_path: str) -> bool:
        self.calls.append(("fetch", key))
        if not self.path(key).exists():
            return False
        Path(pk3_path).write_bytes(self.path(key).read_bytes())
        return True

    def write(self, key: str, pk3_path: str) -> None:
        self.calls.append(("write", key))
        self.path(key).write_bytes(Path(pk3_path).read_bytes())


def test_the_cache_is_asked_for_each_map_and_told_each_new_one(
    make: Callable[..., Lab], tmp_path: Path
) -> None:
    cache = Cache(tmp_path)
    lab = make(GOALS, level_cache=cache)
    for seed in (1, 2, 1):
        lab.reset(seed=seed)
    assert [call for call, _ in cache.calls] == ["fetch", "write", "fetch", "write", "fetch"]
    assert cache.calls[0][1] == cache.calls[4][1] != cache.calls[2][1]


def test_a_cache_that_raises_or_lies(make: Callable[..., Lab], tmp_path: Path) -> None:
    class Broken(Cache):
        def write(self, key: str, pk3_path: str) -> None:
            raise OSError("disk full")

    class Lying(Cache):
        def fetch(self, key: str, pk3_path: str) -> bool:
            return True

    lab = make(GOALS, level_cache=Broken(tmp_path))
    with pytest.raises(OSError, match="disk full"):
        lab.reset(seed=0)
    lab.close()
    with pytest.raises(RuntimeError, match="not the map"):
        make(GOALS, level_cache=Lying(tmp_path)).reset(seed=0)


@pytest.mark.parametrize(("folder", "there"), [(None, False), ("", False), ("dummy", True)])
def test_images_must_be_somewhere(make: Callable[..., Lab], folder: str | None, there: bool) -> None:
    config = {} if folder is None else {"datasetPath": folder}
    lab = make("contributed/dmlab30/psychlab_continuous_recognition", config=config)
    if there:
        lab.reset(seed=0)
    else:
        with pytest.raises(RuntimeError, match="download datasets"):
            lab.reset(seed=0)


def test_it_has_what_the_module_has_and_no_more(make: Callable[..., Lab]) -> None:
    assert fake_deepmind_lab.version() == "1.0"
    assert not hasattr(Lab, "fps"), "documented, but not in every build of the extension"
    assert [spec["name"] for spec in make().action_spec()][3] == "MOVE_BACK_FORWARD"
    assert len([level for level in LEVELS if level.startswith("contributed/dmlab30/")]) == 32
    assert len([level for level in LEVELS if "memory_suite_01" in level]) == 19
