"""W&B's own environment variables, by runs whose real offline files are read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import launch
from configs.schema import ConfigError, WandbConfig
from learner.records.wandb_variables import mode
from tests.learner.records.wandb_reader import read_records, run_files


@pytest.fixture(autouse=True)
def no_account(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, settings or login of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))


def train(run_dir: Path, *more: str, resume: bool = False) -> int:
    start = ["--resume", str(run_dir)] if resume else ["memory_rtrl", "--run-dir", str(run_dir)]
    return launch.main(["train", *start, "--total-steps", "80", *more])


def runs(folder: Path) -> list[Any]:
    """W&B's record of each run file, oldest first."""
    return [
        next(record.run for record in read_records(file) if record.WhichOneof("record_type") == "run")
        for file in run_files(folder)
    ]


def test_they_fill_what_no_option_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    variables = {
        "WANDB_MODE": "dryrun",
        "WANDB_PROJECT": "their project",
        "WANDB_ENTITY": "their-team",
        "WANDB_RUN_GROUP": "their group",
        "WANDB_NAME": "their name",
        "WANDB_DIR": str(elsewhere),
        "WANDB_TAGS": "a,b",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert train(tmp_path / "run") == 0
    assert not (tmp_path / "run" / "wandb").exists()
    (run,) = runs(elsewhere)
    assert (run.project, run.entity, run.run_group) == ("their project", "their-team", "their group")
    assert run.display_name == "their name" and list(run.tags) == ["a", "b"]


def test_our_options_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WANDB_MODE": "disabled", "WANDB_PROJECT": "theirs", "WANDB_NAME": "theirs"}.items():
        monkeypatch.setenv(name, value)
    options = ["--wandb.mode", "offline", "--wandb.project", "ours", "--wandb.name", "our name"]
    assert train(tmp_path / "run", *options) == 0
    (run,) = runs(tmp_path / "run")
    assert (run.project, run.display_name) == ("ours", "our name")


def test_a_mode_holds_for_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(tmp_path / "run") == 0
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert train(tmp_path / "run", "--total-steps", "160", resume=True) == 0
    assert len(runs(tmp_path / "run")) == 1
    monkeypatch.setenv("WANDB_MODE", "online")
    assert train(tmp_path / "run", "--total-steps", "240", resume=True) == 1, "there is no login"
    assert train(tmp_path / "other") == 1 and not (tmp_path / "other").exists()
    monkeypatch.delenv("WANDB_MODE")
    assert train(tmp_path / "run", "--total-steps", "240", resume=True) == 0
    assert len(runs(tmp_path / "run")) == 2


def test_a_run_that_goes_on_stays_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = tmp_path / "run"
    monkeypatch.setenv("WANDB_PROJECT", "first")
    monkeypatch.setenv("WANDB_NAME", "first")
    assert train(run_dir) == 0
    monkeypatch.setenv("WANDB_PROJECT", "second")
    monkeypatch.delenv("WANDB_NAME")
    assert train(run_dir, resume=True) == 0
    assert train(run_dir, "--auto-resume") == 0
    assert train(run_dir, "--wandb.project", "third", resume=True) == 0
    found = runs(run_dir)
    assert [run.project for run in found] == ["first", "first", "first", "third"]
    assert {(run.run_id, run.display_name) for run in found} == {(found[0].run_id, "first")}
    assert json.loads((run_dir / "config.json").read_text())["wandb"]["project"] == "third"


def test_what_cannot_be_obeyed_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    assert train(tmp_path / "run") == 2
    assert "WANDB_MODE = 'sometimes': choose online, offline or disabled" in capfd.readouterr().err
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "file"))
    assert train(tmp_path / "run") == 1
    assert f"WANDB_DIR = '{tmp_path / 'file'}'" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_mode_that_does_not_fit_the_options_is_refused() -> None:
    assert mode(WandbConfig(log_checkpoint=True), {}) == "offline"
    with pytest.raises(ConfigError, match=r"wandb\.log_checkpoint = True: needs W&B"):
        mode(WandbConfig(log_checkpoint=True), {"WANDB_MODE": "disabled"})
