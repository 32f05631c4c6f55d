"""SPACE.yaml: what is read, and what is refused by name before anything is on disk."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import launch
from configs.identity import MAY_BE_TUNED
from configs.presets import preset
from configs.schema import Config, ConfigError
from configs.serial import leaves, words_of
from sweeps.read import read_space
from sweeps.space import Space
from sweeps.sweep import plain

GOOD: dict[str, Any] = {
    "preset": "memory_rtrl",
    "fixed": {"total_steps": 100_000},
    "space": {"learning_rate": {"loguniform": [1e-4, 1e-2]}, "entropy_cost": {"choice": [0.01, 0.001]}},
    "samples": 4,
    "metric": "charts/episodic_return",
    "interval_steps": 5000,
}


def changed(**parts: Any) -> dict[str, Any]:
    return {**GOOD, **parts}


def read(folder: Path, data: object) -> Space:
    file = folder / "space.yaml"
    file.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return read_space(file)


def test_a_trial_gets_the_values_and_what_the_sweep_sets(tmp_path: Path) -> None:
    space = read(tmp_path, changed(fixed={"total_steps": 100_000, "policy.core": "indylstm"}))
    config = space.config({"learning_rate": 0.003, "entropy_cost": 0.001})
    was = dict(leaves(preset("memory_rtrl")))
    assert {name: value for name, value in leaves(config) if value != was[name]} == {
        "total_steps": 100_000,
        "policy.core": "indylstm",
        "entropy_cost": 0.001,
        "wandb.mode": "disabled",
        "log_interval_s": 1e-9,
        "log_interval_steps": 5000,
        "checkpoint.interval_s": 1e-9,
        "checkpoint.interval_steps": 5000,
    }
    assert config.learning_rate == 0.003


def test_numbers_are_read_as_everywhere_else(tmp_path: Path) -> None:
    """PyYAML alone takes 1e-3 for a text."""
    text = yaml.safe_dump(changed(space={})).replace(
        "space: {}", "space: {learning_rate: {uniform: [1e-3, 2E-2]}}"
    )
    assert read(tmp_path, text).space == {"learning_rate": {"uniform": [1e-3, 2e-2]}}


def test_a_grid_is_combined_with_every_sample(tmp_path: Path) -> None:
    grids = {"seed": {"grid": [1, 2, 3]}, "policy.hidden_size": {"grid": [8, 16]}}
    assert read(tmp_path, changed(space=GOOD["space"] | grids)).trials == 4 * 3 * 2


PBT = {"name": "pbt"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such part": (changed(sample=3), "sweep: unknown field 'sample'"),
    "a part is missing": (
        {k: v for k, v in GOOD.items() if k != "metric"},
        "sweep: field 'metric' is missing",
    ),
    "another kind of thing": (changed(samples="many"), "sweep.samples = 'many': expected int"),
    "no trial": (changed(samples=0), "samples = 0: needs at least 1"),
    "no such preset": (
        changed(preset="memory_rtlr"),
        "unknown preset 'memory_rtlr'. Did you mean 'memory_rtrl'",
    ),
    "no such field": (
        changed(fixed={"lerning_rate": 1}),
        "fixed.lerning_rate = 1: no field of the config. did you",
    ),
    "no such field in the space": (changed(space={"gamma": {"choice": [1, 2]}}), "space.gamma = "),
    "a branch": (
        changed(fixed={"policy": {"core": "gru"}}),
        "fixed.policy = {'core': 'gru'}: no field of the config",
    ),
    "one of the sweep's": (changed(fixed={"run_dir": "x"}), "fixed.run_dir = 'x': the sweep sets it"),
    "fixed and searched": (
        changed(fixed={"entropy_cost": 0.1}),
        "fixed.entropy_cost = 0.1: is in the space too",
    ),
    "another type": (changed(fixed={"total_steps": "long"}), "config.total_steps = 'long': expected int"),
    "out of range": (changed(fixed={"discounting": 1.5}), "discounting = 1.5: lies in [0, 1]"),
    "an end out of range": (
        changed(space={"discounting": {"uniform": [0.9, 1.1]}}),
        "discounting = 1.1: lies in [0, 1] (a trial with discounting = 1.1)",
    ),
    "one bad combination": (
        changed(
            space={"credit": {"choice": ["tbptt", "rtrl"]}, "policy.core": {"choice": ["elstm", "lstm"]}}
        ),
        "(a trial with credit = 'rtrl', policy.core = 'lstm')",
    ),
    "without effect": (changed(fixed={"ppo.clip": 0.1}), "ppo.clip = 0.1: has no effect with objective"),
    "nothing to search": (changed(space={}), "space = {}: needs a field"),
    "no kind": (changed(space={"seed": [1, 2]}), "space.seed = [1, 2]: needs one of choice, grid"),
    "an unknown kind": (
        changed(space={"seed": {"normal": [1, 2]}}),
        "space.seed = {'normal': [1, 2]}: needs one of",
    ),
    "one value": (
        changed(space={"seed": {"choice": [1]}}),
        "choice takes a list of at least two plain values",
    ),
    "a value twice": (changed(space={"seed": {"grid": [1, 2, 1]}}), "one of its values is there twice"),
    "ends in the wrong order": (
        changed(space={"seed": {"int": [5, 1]}}),
        "int takes [low, high], two whole numbers",
    ),
    "parts of a whole": (
        changed(space={"seed": {"int": [0.5, 2]}}),
        "int takes [low, high], two whole numbers",
    ),
    "an end of nan": (changed(space={"epsilon": {"uniform": [math.nan, 1.0]}}), "uniform takes [low, high]"),
    "a log of 0": (
        changed(space={"epsilon": {"loguniform": [0.0, 1.0]}}),
        "loguniform needs a low end above 0",
    ),
    "no such metric": (changed(metric="charts/retrun"), "metric = 'charts/retrun': no metric of a run"),
    "an evaluation that nobody makes": (
        changed(metric="eval/episodic_return"),
        "metric = 'eval/episodic_return': is of evaluations, and a trial makes none",
    ),
    "no report before the end": (
        changed(interval_steps=100_000),
        "interval_steps = 100000: a trial of total_steps",
    ),
    "no such scheduler": (
        changed(scheduler={"name": "hyperband"}),
        "scheduler.name = 'hyperband': choose one of",
    ),
    "asha's with pbt": (
        changed(scheduler={"name": "pbt", "grace_steps": 5}),
        "scheduler.grace_steps = 5: belongs to asha, and scheduler.name is 'pbt'",
    ),
    "pbt's with asha": (
        changed(scheduler={"name": "asha", "quantile": 0.5}),
        "scheduler.quantile = 0.5: belongs to pbt, and scheduler.name is 'asha'",
    ),
    "nothing is ever stopped": (
        changed(scheduler={"name": "asha", "grace_steps": 100_000}),
        "scheduler.grace_steps = 100000: below total_steps = 100000",
    ),
    "trials of several lengths": (
        changed(fixed={}, space={"total_steps": {"choice": [10_000, 20_000]}}, scheduler={"name": "asha"}),
        "asha compares trials of one length",
    ),
    "a population of one": (changed(samples=1, scheduler=PBT), "samples = 1: a population needs at least 2"),
    "what no member can change": (
        changed(space={"policy.hidden_size": {"choice": [8, 16]}}, scheduler=PBT),
        "space.policy.hidden_size = {'choice': [8, 16]}: a member that goes on from another's",
    ),
    "what identity does not let a population change": (
        changed(space={"rtrl.max_trace_norm": {"choice": [1.0, 2.0]}}, scheduler=PBT),
        "space.rtrl.max_trace_norm = ",
    ),
    "what is not there to change": (
        changed(scheduler={"name": "pbt", "mutate": ["seed"]}),
        "scheduler.mutate = ['seed']: 'seed' is not in the space",
    ),
    "two searches": (
        changed(scheduler=PBT, search={"name": "optuna"}),
        "search.name = 'optuna': pbt searches by itself",
    ),
    "optuna's grid": (
        changed(space={"seed": {"grid": [1, 2]}}, search={"name": "optuna"}),
        "space.seed = {'grid': [1, 2]}: optuna takes no grid",
    ),
    "actors that nobody counted": (
        changed(fixed={"total_steps": 100_000, "runtime": "ray"}),
        "num_actors = 0: a trial through Ray says how many actors it has",
    ),
    "more actors than CPUs": (
        changed(fixed={"total_steps": 100_000, "runtime": "ray", "num_actors": 2}, resources={"cpus": 2}),
        "resources.cpus = 2.0: a trial with num_actors = 2 takes 3, one of them for its learner",
    ),
    "a part of two CPUs": (
        changed(resources={"cpus": 1.5}),
        "resources.cpus = 1.5: a whole number, or a part of one",
    ),
    "a GPU that nobody uses": (changed(resources={"gpus": 1}), "resources.gpus = 1.0: no trial may use it"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case: str, tmp_path: Path) -> None:
    data, message = BAD[case]
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, data)
    assert str(refused.value).startswith(f"{tmp_path / 'space.yaml'}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("samples: 1\nsamples: 2\n", "'samples' stands twice"),
        ("space:\n  seed: {grid: [1, 2]}\n  seed: {grid: [3, 4]}\n", "'seed' stands twice"),
        ("1: 2\n", "1 is no name"),
        ("a: [\n", "is no YAML"),
        ("!!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("- a\n", "expected an object"),
        ("", "expected an object"),
        ("x: 2020-99-99\n", "is no YAML"),
    ],
)
def test_what_is_no_sweep_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"space\.yaml") as refused:
        read(tmp_path, text)
    assert message in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml cannot be read: No such file"):
        read_space(tmp_path / "nothing.yaml")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(part=st.sampled_from([*Space.__dataclass_fields__, "space.learning_rate"]), value=PLAIN)
def test_whatever_stands_in_a_file_is_taken_or_refused(
    part: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = changed(space={"learning_rate": value}) if "." in part else changed(**{part: value})
    try:
        space = read(tmp_path_factory.mktemp("fuzz"), data)
    except ConfigError:
        return
    assert space.trials >= 1


@pytest.mark.parametrize("name", ["memory_feedforward", "atari_breakout_rtrl", "mujoco_hopper_p_rtrl"])
def test_the_words_of_all_settings_make_the_config(name: str) -> None:
    config, other = preset(name), preset("cartpole_tbptt")
    config = dataclasses.replace(config, max_policy_lag=3, clip_rho_threshold=None)
    words = words_of(dict(leaves(config)))
    assert tyro.cli(Config, default=other, args=words) == config != other


def test_what_a_population_may_change_is_in_the_schema() -> None:
    assert {name for name, _ in leaves(preset("memory_rtrl"))} >= MAY_BE_TUNED


def test_nothing_is_on_disk_after_a_refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(changed(samples=0)))
    out = tmp_path / "out"
    assert launch.main(["sweep", str(tmp_path / "space.yaml"), "--out", str(out)]) == 2
    assert "space.yaml: samples = 0: needs at least 1" in capsys.readouterr().err
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(changed(resources={"cpus": 4096})))
    assert launch.main(["sweep", str(tmp_path / "space.yaml"), "--out", str(out)]) == 2
    assert "resources.cpus = 4096: this machine has" in capsys.readouterr().err
    assert not out.exists()


def test_a_sweep_that_was_killed_as_it_began_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space, out = read(tmp_path, GOOD), tmp_path / "out"
    (out / "trials" / "1234_00000").mkdir(parents=True)
    (out / "sweep.json").write_text(json.dumps(plain(space)))
    assert launch.main(["sweep", str(tmp_path / "space.yaml"), "--out", str(out)]) == 2
    assert "trials holds trials that Ray Tune has not written down" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ({"notes.txt": "mine"}, "holds something else than a sweep"),
        ({"sweep.json": "{"}, "sweep.json is damaged"),
        ({"sweep.json": "{}"}, "holds another sweep: preset = None there"),
        ({"sweep.json": "[]"}, "holds another sweep"),
    ],
)
def test_what_is_in_the_folder_already_is_left_alone(
    there: dict[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, text in there.items():
        (out / name).write_text(text)
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(GOOD))
    assert launch.main(["sweep", str(tmp_path / "space.yaml"), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert {path.name: path.read_text() for path in out.iterdir()} == there
