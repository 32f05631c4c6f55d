"""Every clause of the engine's contract, tripped once on the stand-in that the adapter is tested with."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.envs.suites.dmlab import fake_deepmind_lab
from tests.envs.suites.dmlab.fake_deepmind_lab import EPISODE_FRAMES, LEVELS, Lab
from tests.integration.cli import PATIENCE_S

ROOM = "tests/empty_room_test"
GOALS = "contributed/dmlab30/explore_goal_locations_small"
IMAGES = "contributed/dmlab30/psychlab_continuous_recognition"
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
        ({"observations": ("VEL.ROT",)}, ValueError, "Unknown observation"),
        ({"observations": ("INSTR",)}, ValueError, "Unknown observation"),
        ({"observations": ("FRAMES_REMAINING_AT_60",)}, ValueError, "Unknown observation"),
        ({"config": [("width", "96")]}, TypeError, "must be dict"),
        ({"config": {"width": 96}}, TypeError, "bad argument type for built-in operation"),
        ({"config": {"fps": "many"}}, RuntimeError, "Failed to apply setting"),
        ({"config": {"width": "98"}}, RuntimeError, "'width' must be a positive multiple of 4"),
        ({"config": {"height": "0"}}, RuntimeError, "'height' must be a positive multiple of 4"),
        ({"level": GOALS, "config": {"nonsense": "1"}}, RuntimeError, 'Invalid setting: "nonsense" = "1"'),
        ({"renderer": "cuda"}, RuntimeError, "renderer must be"),
        (
            {"level": "contributed/dmlab30/rooms_collect_good_objects_test"},
            RuntimeError,
            "only be used during eval",
        ),
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
        (np.zeros(14, np.intc)[::2], ValueError, "strides"),
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
    assert lab.events(), "there may be some of the reset"
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
    names = ("RGB_INTERLEAVED", "RGB", "INSTR", "VEL.TRANS", "DEBUG.POS.TRANS", "DEBUG.PLAYER_ID")
    lab = make(GOALS, observations=names, config={"width": "80", "height": "60", "fps": "59.5"})
    lab.reset(seed=5)
    one, two = lab.observations(), lab.observations()
    assert list(one) == list(names) and isinstance(one["INSTR"], str)
    specs = {spec["name"]: spec for spec in lab.observation_spec()}
    for name in set(names) - {"INSTR"}:
        assert not np.shares_memory(one[name], two[name])
        assert (one[name].shape, one[name].dtype) == (specs[name]["shape"], specs[name]["dtype"])
    assert one["RGB_INTERLEAVED"].shape == (60, 80, 3)
    assert one["DEBUG.PLAYER_ID"].dtype == np.uint8 and one["VEL.TRANS"].dtype == np.float64
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
            with zipfile.ZipFile(pk3_path, "w") as archive:
                archive.writestr("maps/map_1.bsp", "another map")
            return True

    lab = make(GOALS, level_cache=Broken(tmp_path))
    with pytest.raises(OSError, match="disk full"):
        lab.reset(seed=0)
    lab.close()
    with pytest.raises(RuntimeError, match="not the map"):
        make(GOALS, level_cache=Lying(tmp_path)).reset(seed=0)


def test_maps_are_compiled_in_mid_episode_too(make: Callable[..., Lab], tmp_path: Path) -> None:
    lab = make("tests/fake_new_map", level_cache=(cache := Cache(tmp_path)))
    lab.reset(seed=0)
    lab.step(STAND, num_steps=8)
    assert cache.calls == []
    lab.step(STAND)
    assert [call for call, _ in cache.calls] == ["fetch", "write"]


def test_without_zip_no_map_is_compiled(make: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.which("sh") or "").parent
    monkeypatch.setenv("PATH", "")
    lab = make(GOALS)
    with pytest.raises(RuntimeError, match="Failed to compile map"):
        lab.reset(seed=0)
    monkeypatch.setenv("PATH", str(folder))
    lab.reset(seed=0)


@pytest.mark.parametrize("folder", [None, ""])
def test_images_must_be_somewhere(make: Callable[..., Lab], folder: str | None) -> None:
    config = {} if folder is None else {"datasetPath": folder}
    lab = make(IMAGES, config=config)
    with pytest.raises(RuntimeError, match="download datasets"):
        lab.reset(seed=0)
    lab.close()
    lab = make(IMAGES, config={"datasetPath": "dummy"})
    lab.reset(seed=0)
    lab.observations()


IN_A_PROCESS = """
import fake_deepmind_lab as fake
class Junk:
    def fetch(self, key, pk3_path):
        with open(pk3_path, "w") as file:
            file.write("no map")
        return True
lab = fake.Lab("{level}", ["RGB_INTERLEAVED"], {config}, level_cache=Junk())
lab.reset(seed=0)
print("reset")
lab.observations()
"""


@pytest.mark.parametrize(
    ("level", "config", "code", "out", "words"),
    [
        ("IMAGES", {"datasetPath": "/nowhere"}, -signal.SIGABRT, "reset\n", "Failed to open /nowhere"),
        ("GOALS", {}, 1, "", "Didn't find map"),
    ],
)
def test_what_ends_its_process(level: str, config: dict[str, str], code: int, out: str, words: str) -> None:
    program = IN_A_PROCESS.format(level=globals()[level], config=config)
    folder = Path(fake_deepmind_lab.__file__ or "").parent
    ended = subprocess.run(
        [sys.executable, "-u", "-c", program], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (ended.returncode, ended.stdout) == (code, out) and words in ended.stderr


def test_an_episode_depends_on_all_that_its_engine_played(make: Callable[..., Lab]) -> None:
    def played(*seeds: int) -> list[bytes]:
        lab, seen = make(), []
        for seed in seeds:
            lab.reset(seed=seed)
            seen.append(lab.observations()["RGB_INTERLEAVED"].tobytes())
        lab.close()
        return seen

    first = played(7, 8, 7)
    assert played(7, 8, 7) == first and len(set(first)) == 3
    assert played(8) != first[1:2]


def test_its_temporary_folder(make: Callable[..., Lab], tmp_path: Path) -> None:
    """Its own goes when it is closed; one that it is given is not its to remove."""
    (tmp_path / "own").mkdir()
    (tmp_path / "given").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path / "own"))
        lab = make(GOALS)
        lab.reset(seed=0)
        assert list((tmp_path / "own").glob("dmlab_temp_folder_*/baselab/*.pk3"))
        lab.close()
    assert not list((tmp_path / "own").iterdir())
    lab = make(GOALS, temp_folder=str(tmp_path / "given"))
    lab.reset(seed=0)
    lab.close()
    assert list((tmp_path / "given").glob("baselab/*.pk3"))


def test_a_level_may_have_actions_of_its_own(make: Callable[..., Lab]) -> None:
    lab = make("tests/custom_actions_test")
    assert [spec["name"] for spec in lab.action_spec()][5:] == [
        *("JUMP", "CROUCH"),
        *("SWITCH_GADGET", "SELECT_GADGET"),
    ]
    lab.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(9\)"):
        lab.step(STAND)


def test_it_has_what_the_module_has_and_no_more(make: Callable[..., Lab]) -> None:
    assert fake_deepmind_lab.version() == "1.0"
    assert not hasattr(Lab, "fps"), "documented, but not in every build of the extension"
    assert [spec["name"] for spec in make().action_spec()][3] == "MOVE_BACK_FORWARD"
    assert len([level for level in LEVELS if level.startswith("contributed/dmlab30/")]) == 32
    assert len([level for level in LEVELS if "memory_suite_01" in level]) == 19
