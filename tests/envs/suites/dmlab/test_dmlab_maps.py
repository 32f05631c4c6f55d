"""Which maps DeepMind Lab's slots play, when they are compiled, and where they are kept."""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest

from configs.schema import DmlabConfig, EnvConfig
from envs.make import held_out
from envs.spec import EnvError
from envs.suites.dmlab.engine import LevelCache
from envs.suites.dmlab.env import DmlabVecEnv
from envs.suites.dmlab.seeds import MAX_SEED, LevelSeeds
from tests.envs.suites.dmlab.playing import (
    FORWARD,
    FRAME,
    GOALS,
    HISTORY,
    SEED,
    STEPS,
    Build,
    everyone,
    logged,
    number,
)
from tests.envs.suites.dmlab.test_dmlab_engines import compiling
from tests.integration.cli import wait_until

pytestmark = pytest.mark.usefixtures("log")


def episodes(env: DmlabVecEnv, seed: int, count: int) -> list[tuple[list[int], list[int]]]:
    """Seeds and histories of each slot's first episodes."""
    observation, found = env.reset(seed), []
    for episode in range(count):
        found.append((number(observation, SEED), number(observation, HISTORY)))
        if episode + 1 < count:
            for _ in range(STEPS + 1):
                observation = env.step(everyone(FORWARD, env)).observation
            assert number(observation, FRAME) == [0] * env.num_envs
    return found


# --- seeds -------------------------------------------------------------------------------------------


def test_no_level_seed_comes_twice() -> None:
    seeds = LevelSeeds(2**62 + 5, 3)
    drawn = [seeds.next(slot) for _ in range(20_000) for slot in (0, 0, 2, 1, 1)]
    assert len(set(drawn)) == 100_000
    assert all(type(seed) is int and 0 <= seed < MAX_SEED == 2**31 - 1 for seed in drawn)


@pytest.mark.parametrize("num_maps", [0, 5])
def test_the_seeds_of_a_slot_do_not_depend_on_the_other_slots(num_maps: int) -> None:
    few, many = LevelSeeds(7, 2, num_maps), LevelSeeds(7, 6, num_maps)
    expected = [[few.next(slot) for _ in range(20)] for slot in (0, 1)]
    for slot in (4, 1, 0, 5):
        found = [many.next(slot) for _ in range(20)]
        assert slot > 1 or found == expected[slot]
    assert expected[0] != expected[1]


def test_a_finite_set_of_maps_is_drawn_from_evenly() -> None:
    seeds = LevelSeeds(3, 2, 4)
    drawn = [seeds.next(slot) for _ in range(2000) for slot in (0, 1)]
    assert all(type(seed) is int for seed in drawn)
    counts = np.bincount(drawn)
    assert len(counts) == 4 and (abs(counts - 1000) < 5 * np.sqrt(4000 * 3 / 16)).all()


def test_new_engines_make_a_seed_the_same_episodes_again(build: Build) -> None:
    one, other = build(num_envs=2), build(num_envs=2, actor_id=1)
    first = episodes(one, 11, 3)
    assert episodes(other, 11, 3) == first
    assert episodes(one, 11, 3) == first, "an engine that has played plays otherwise"
    seeds = [seed for row, _ in first for seed in row]
    assert set(seeds).isdisjoint(seed for row, _ in episodes(one, 12, 3) for seed in row)
    assert len(set(seeds)) == 6


def test_evaluation_has_maps_of_its_own(build: Build, tmp_path: Path) -> None:
    cache = str(tmp_path / "maps")
    options = {"num_maps": 2, "level_cache": cache, "reset_ahead": False}
    config = EnvConfig(id=GOALS, dmlab=DmlabConfig(**options))
    other = held_out(config)
    assert other.dmlab == dataclasses.replace(config.dmlab, held_out=True, num_maps=0)
    episodes(build(GOALS, **options), 0, 6)
    assert len(list(Path(cache).iterdir())) == 2
    # Even of the same seeds: the engine mixes another number in.
    episodes(build(GOALS, **options | {"held_out": True}), 0, 6)
    assert len(list(Path(cache).iterdir())) == 4


# --- the level cache ---------------------------------------------------------------------------------


def test_a_finite_set_of_maps_is_compiled_once_for_all_actors(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    for actor_id in range(2):
        env = build(GOALS, num_envs=2, actor_id=actor_id, level_cache=str(folder), num_maps=3)
        episodes(env, actor_id, 6)  # the stand-in refuses a map that is not the right one
    files = list(folder.iterdir())
    assert len(files) == 3 and all(file.suffix == ".pk3" for file in files)


def test_a_map_that_comes_in_mid_episode_is_kept_too(build: Build, tmp_path: Path) -> None:
    episodes(build("dmlab/tests/fake_new_map", level_cache=str(tmp_path / "maps")), 0, 2)
    assert len(list((tmp_path / "maps").iterdir())) == 1


def pack(path: Path, name: str = "maps/map_1.bsp") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "a map")
    return path


def test_a_cache_keeps_what_it_was_given(tmp_path: Path) -> None:
    cache, fetched = LevelCache(str(tmp_path / "deep" / "maps")), tmp_path / "got"
    assert cache.fetch("level/with:odd name", str(fetched)) is False and not fetched.exists()
    made = pack(tmp_path / "made")
    cache.write("level/with:odd name", str(made))
    cache.write("level/with:odd name", str(made))
    assert cache.fetch("level/with:odd name", str(fetched)) is True
    assert fetched.read_bytes() == made.read_bytes()
    assert cache.fetch("another", str(fetched)) is False


@pytest.mark.parametrize("damage", ["junk", "cut", "changed", "empty", "another"])
def test_a_damaged_map_is_named(build: Build, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "maps"
    options = {"level_cache": str(folder), "num_maps": 1}
    build(GOALS, **options).reset(0)
    (kept,) = folder.iterdir()
    whole = kept.read_bytes()
    broken = {
        "junk": b"no map",
        "cut": whole[:-30],
        "changed": whole.replace(b"map ", b"nap ", 1),
        "empty": b"",
        "another": pack(tmp_path / "other", "readme").read_bytes(),
    }
    kept.write_bytes(broken[damage])
    with pytest.raises(EnvError, match=rf"stream 0: .*damaged map: remove {kept}"):
        build(GOALS, **options).reset(0)


def test_a_map_that_cannot_be_kept_is_an_error_and_leaves_no_part(tmp_path: Path) -> None:
    cache = LevelCache(str(tmp_path / "maps"))
    with pytest.raises(FileNotFoundError):
        cache.write("key", str(tmp_path / "missing"))
    assert list((tmp_path / "maps").iterdir()) == []


def test_an_unusable_cache_folder_is_named(build: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvError, match=f"FileExistsError.*{tmp_path}/file"):
        build(GOALS, level_cache=str(tmp_path / "file"))


# --- resetting ahead ---------------------------------------------------------------------------------


def test_slots_play_on_while_the_map_of_another_is_compiled(build: Build, tmp_path: Path) -> None:
    seeds = LevelSeeds(4, 2)
    *_, third = (seeds.next(0) for _ in range(3))
    held_up = tmp_path / f"held_up.{third}"
    held_up.touch()
    env = build(GOALS, num_envs=2, reset_ahead=None)
    episodes(env, 4, 2)
    assert compiling(psutil.Process())
    for _ in range(STEPS):
        ended = env.step(everyone(FORWARD, env)).terminated
    assert ended.all() and compiling(psutil.Process())
    held_up.unlink()
    first = env.step(everyone(FORWARD, env)).observation
    assert number(first, SEED)[0] == third and number(first, FRAME) == [0, 0]


def test_two_engines_take_turns_at_the_same_seeds(build: Build) -> None:
    plain, ahead = build(num_envs=2), build(num_envs=2, reset_ahead=True)
    one, two = episodes(plain, 3, 5), episodes(ahead, 3, 5)
    assert [seeds for seeds, _ in one] == [seeds for seeds, _ in two]

    def digest(*seeds: int) -> int:
        history = 0
        for seed in seeds:
            history = zlib.crc32(f"{history} 0 {seed}".encode())
        return history

    for slot in range(2):
        a, b, c, d, e = (seeds[slot] for seeds, _ in two)
        played = [(a,), (a, b), (c,), (a, b, d), (c, e)]
        assert [histories[slot] for _, histories in two] == [digest(*seeds) for seeds in played]
    assert episodes(ahead, 3, 5) == two


@pytest.mark.parametrize(
    ("num_envs", "ahead", "engines"), [(1, None, 1), (2, None, 4), (1, True, 2), (2, False, 2)]
)
def test_actors_of_several_slots_reset_ahead_by_themselves(
    build: Build, log: Path, num_envs: int, ahead: bool | None, engines: int
) -> None:
    env = build(num_envs=num_envs, reset_ahead=ahead)
    episodes(env, 0, 1)
    assert len(logged(log)) == num_envs, "an evaluation may play one game a slot"
    episodes(env, 0, 3)
    assert len(logged(log)) == num_envs + engines


def test_an_engine_that_fails_while_it_resets_ahead_is_missed(build: Build) -> None:
    env = build(num_envs=2, reset_ahead=True)
    episodes(env, 0, 2)
    spare = env._spares[1]
    assert spare is not None
    above = psutil.Process(spare._process.pid)
    wait_until(lambda: len(above.children(recursive=True)) == 2)
    above.children()[0].children()[0].kill()
    with pytest.raises(EnvError, match=r"stream 1.* -9 \(SIGKILL\)"):
        for _ in range(STEPS + 2):  # its answer may have been given already
            env.step(everyone(FORWARD, env))
