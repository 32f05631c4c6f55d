from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from configs.schema import DmlabConfig, EnvConfig
from envs.doctor import diagnose, report
from envs.make import check_env, suite_of
from envs.spec import EnvError
from envs.suites.dmlab.env import held_out, known_ids, make
from envs.suites.dmlab.levels import (
    BASE,
    DMLAB30,
    HELD_OUT,
    MEMORY_SUITE,
    TASK_SETS,
    LevelIds,
    levels_of,
    needs_images,
    path_of,
)
from tests.envs.suites.dmlab.fake_deepmind_lab import LEVELS

ROOT = Path(__file__).resolve().parents[4]
SETS = tuple(TASK_SETS)


def test_the_short_names_are_all_of_the_engines_scripts() -> None:
    paths = [path_of(env_id.removeprefix("dmlab/")) for env_id in LevelIds() if env_id[6:] not in SETS]
    assert len(paths) == len(set(paths)) == 32 + 19 + 12
    extra = {level for level in LEVELS if level.startswith(("demos/", "tests/"))}
    assert set(paths) == LEVELS - extra


def test_sizes_of_the_sets() -> None:
    assert {name: len(levels) for name, levels in TASK_SETS.items()} == {
        "dmlab30": 30,
        "dmlab30_test": 30,
        "memory_suite": 6,
        "memory_suite_holdout": 6,
    }
    assert all(len(set(levels)) == len(levels) for levels in TASK_SETS.values())
    assert all(f"dmlab/{level}" in LevelIds() for levels in TASK_SETS.values() for level in levels)


def test_a_path_is_its_own_name() -> None:
    assert levels_of("dmlab/contributed/psychlab/harlow") == ("contributed/psychlab/harlow",)
    assert path_of("contributed/psychlab/harlow") == "contributed/psychlab/harlow"
    assert path_of("lt_chasm") == "lt_chasm" and path_of("rooms_watermaze").startswith("contributed/dmlab30/")
    ids = known_ids(EnvConfig(id="dmlab/lt_chasm"))
    assert "dmlab/contributed/psychlab/harlow" in ids
    assert "dmlab/rooms_watermase" not in ids and "elsewhere/rooms_watermaze/x" not in ids and 3 not in ids


@pytest.mark.parametrize(
    ("level", "needed"),
    [
        ("psychlab_continuous_recognition", True),
        ("contributed/dmlab30/psychlab_arbitrary_visuomotor_mapping", True),
        ("what_then_where_train", True),
        ("continuous_recognition_holdout_interpolate", True),
        ("continuous_recognition_holdout_extrapolate", True),
        ("change_detection_train", False),
        ("psychlab_visual_search", False),
        ("rooms_watermaze", False),
    ],
)
def test_which_levels_need_images(level: str, needed: bool) -> None:
    assert needs_images(level) is needed


@pytest.mark.parametrize("env_id", ["dmlab/dmlab30", "dmlab/psychlab_continuous_recognition"])
def test_missing_images_are_asked_for_before_any_engine_starts(env_id: str) -> None:
    with pytest.raises(EnvError, match=r"env\.dmlab\.dataset_path = None: dmlab/psychlab_\w+ shows images"):
        make(EnvConfig(id=env_id), 0)


@pytest.mark.parametrize(
    "env_id",
    [
        "dmlab/rooms_collect_good_objects_test",
        "dmlab/contributed/dmlab30/rooms_exploit_deferred_effects_test",
    ],
)
def test_a_level_for_testing_is_not_trained_on(env_id: str) -> None:
    with pytest.raises(EnvError, match=r"env\.dmlab\.held_out = False: .*_test must not be trained on"):
        make(EnvConfig(id=env_id), 0)


def counterpart(name: str, **options: object) -> str | None:
    config = held_out(EnvConfig(id=f"dmlab/{name}", num_envs=3, dmlab=DmlabConfig(**options)))
    if config is None:
        return None
    assert config.dmlab == DmlabConfig(**options | {"held_out": True}) and config.num_envs == 3
    assert config.id in LevelIds()
    return config.id.removeprefix("dmlab/")


def test_held_out_counterparts() -> None:
    assert counterpart("rooms_collect_good_objects_train") == "rooms_collect_good_objects_test"
    assert counterpart("rooms_exploit_deferred_effects_train") == "rooms_exploit_deferred_effects_test"
    assert counterpart("rooms_watermaze", width=64) == "rooms_watermaze", "other seeds, the same level"
    assert counterpart("dmlab30") == "dmlab30_test" and counterpart("memory_suite") == "memory_suite_holdout"
    path = "contributed/dmlab30/rooms_collect_good_objects"
    assert counterpart(f"{path}_train") == f"{path}_test"
    assert counterpart("rooms_watermaze", held_out=True) is None
    for levels in (DMLAB30, MEMORY_SUITE, BASE):
        assert all(counterpart(level) for level in levels)
    assert set(HELD_OUT.values()).isdisjoint(HELD_OUT)


def test_the_held_out_set_is_the_set_of_counterparts() -> None:
    assert list(TASK_SETS["dmlab30_test"]) == [counterpart(level) for level in DMLAB30]
    assert list(TASK_SETS["memory_suite_holdout"]) == [counterpart(level) for level in MEMORY_SUITE]


def test_without_the_engine_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepmind_lab", None)  # as if it could not be found
    config = EnvConfig(id="dmlab/rooms_watermaze")
    with pytest.raises(EnvError, match=r"needs the package 'deepmind_lab'.*bazel build .*build_pip_package"):
        check_env(config)
    with pytest.raises(EnvError, match="'cartpole' has no such"):  # suggestions pass over it
        check_env(dataclasses.replace(config, id="cartpole/rooms_watermaze"))
    suite = diagnose()["suites"]["dmlab"]
    assert not suite["runs"] and suite["missing"] == ["deepmind_lab"] and "pip install" in suite["install"]
    assert "needs deepmind_lab: no package index has it; build it" in report(diagnose())


def test_a_build_in_a_container_is_told_first_and_for_this_python() -> None:
    install = suite_of("dmlab/rooms_watermaze").install
    assert 0 < install.index("Achronus/dmlab-gym") < install.index("google-deepmind/lab")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"sed -i 's/3\\.13/{version}/g' Dockerfile.build" in install


def test_zip_is_looked_for_and_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "zip" not in diagnose()["suites"]["dmlab"]["missing"]
    monkeypatch.setenv("PATH", str(tmp_path))
    suite = diagnose()["suites"]["dmlab"]
    assert not suite["runs"] and suite["missing"][-1] == "zip"
    assert suite["install"].endswith("apt-get install -y --no-install-recommends zip")
    image = (ROOT / "docker" / "dmlab.Dockerfile").read_text()
    assert set(suite_of("dmlab/rooms_watermaze").programs) <= set(image.split())
