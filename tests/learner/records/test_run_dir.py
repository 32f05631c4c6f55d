"""A run directory belongs to one run and to one process at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from configs.presets import preset
from learner.records import run_dir
from learner.records.checkpoint import CheckpointError
from learner.records.run_dir import RunDir, RunDirError, code_version


def test_create_save_release_open(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "deep" / "run", "preset", seed=1)
    assert run.path == tmp_path / "deep" / "run"
    assert run.config_path == run.path / "config.json"
    assert run.metrics_path == run.path / "metrics.jsonl"
    assert run.checkpoints_path == run.path / "checkpoints"
    run.save_config('{"seed": 1}\n')
    run.save_config('{"seed": 2}\n')
    run.release()
    again = RunDir.open(tmp_path / "deep" / "run")
    assert again.config_path.read_text() == '{"seed": 2}\n'
    assert sorted(p.name for p in again.path.iterdir()) == [".lock", "config.json"]
    again.release()


def test_default_folder_is_named_by_preset_time_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_dir.time, "strftime", lambda _: "20260102-030405")
    first, second = (RunDir.create(None, "atari_breakout_rtrl", seed=7) for _ in range(2))
    assert first.path == tmp_path / "runs" / "atari_breakout_rtrl" / "20260102-030405-seed7"
    assert second.path == tmp_path / "runs" / "atari_breakout_rtrl" / "20260102-030405-seed7-2"


def leave(folder: Path, *what: str) -> Path:
    """What a run, or a start that came to nothing, has left in a folder."""
    folder.mkdir(exist_ok=True)
    for name in what:
        if name.startswith("checkpoints/"):
            (folder / name).mkdir(parents=True)
        else:
            text = {"config.json": preset("memory_rtrl").to_json(), "metrics.jsonl": "{}\n"}.get(name, "mine")
            (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("left", "named"),
    [
        (["config.json", "checkpoints/step_000000000000"], "checkpoints"),
        (["checkpoints/.old-step_000000000000"], "checkpoints"),
        (["config.json", "metrics.jsonl"], "metrics"),
    ],
)
def test_create_refuses_the_directory_of_a_run(tmp_path: Path, left: list[str], named: str) -> None:
    leave(tmp_path, *left)
    kept = []
    for _ in range(2):  # the refusal leaves no lock behind, even while its error is held
        with pytest.raises(RunDirError, match=rf"already holds a run \({named}\).*train --resume") as refusal:
            RunDir.create(tmp_path, "preset", seed=1)
        kept.append(refusal.value)


def test_what_a_start_without_a_checkpoint_left_is_begun_again_and_nothing_else_touched(
    tmp_path: Path,
) -> None:
    left = ["config.json", "starts.jsonl", "checkpoints/.tmp-step_000000000000", "notes.txt", "wandb_run_id"]
    leave(tmp_path, *left)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    assert not RunDir.begun(tmp_path)
    run = RunDir.create(tmp_path, "preset", seed=1)
    run.withdraw()  # of a folder that was there
    run.release()
    after = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.name != ".lock")
    assert after == before and (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["{}", "[1]", "no JSON", '{"preset": "of another program"}'])
def test_somebody_elses_config_is_not_written_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunDirError, match=r"config\.json is not of a run"):
        RunDir.create(tmp_path, "preset", seed=1)
    assert (tmp_path / "config.json").read_text() == text


def test_a_folder_that_was_made_for_a_start_that_failed_goes_with_it(tmp_path: Path) -> None:
    for name in ("failed", "saved"):
        run = RunDir.create(tmp_path / name, "preset", seed=1)
        run.save_config("{}")
        if name == "saved":
            run.checkpoints_path.mkdir()
        run.withdraw()
        run.release()
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_whether_a_run_is_there_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").symlink_to("checkpoints")
    for look in (RunDir.begun, RunDir.check_free):
        with pytest.raises(CheckpointError, match="cannot be read"):
            look(tmp_path)


def test_create_refuses_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirError, match="cannot be made"):
        RunDir.create(tmp_path / "file", "preset", seed=1)
    for path in (tmp_path / "file", tmp_path / "file" / "deep" / "run"):
        with pytest.raises(RunDirError, match=rf"{path} cannot be made: {tmp_path / 'file'} is no folder"):
            RunDir.check_free(path)
    RunDir.check_free(tmp_path / "new" / "run")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_open_refuses_what_is_no_run_directory(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunDirError, match=r"is not a run directory: it has no config\.json"):
            RunDir.open(path)
    assert list(tmp_path.iterdir()) == []


HOLD = """
import sys
from learner.records.run_dir import RunDir
run = RunDir.create(sys.argv[1], "preset", 1)
run.save_config("{}")
print("held", flush=True)
sys.stdin.read()
"""


def test_lock_holds_between_processes_and_falls_with_its_holder(tmp_path: Path) -> None:
    root = Path(run_dir.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(RunDirError, match="in use by another process"):
            RunDir.open(tmp_path / "run")
        with pytest.raises(RunDirError, match="in use by another process"):
            RunDir.create(tmp_path / "run", "preset", seed=1)
        assert RunDir.open(tmp_path / "run", exclusive=False).config_path.read_text() == "{}"
        holder.kill()
        holder.wait()
        RunDir.open(tmp_path / "run").release()


def test_lock_holds_within_a_process(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "preset", seed=1)
    run.save_config("{}")
    with pytest.raises(RunDirError, match="in use"):
        RunDir.open(tmp_path)
    run.release()
    run.release()
    RunDir.open(tmp_path).release()


def test_each_start_and_the_version_of_the_code_go_down(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", "preset", seed=1)
    run.record_start("abc", 0, "one actor")
    run.record_start("abd-dirty", 128, "two")
    run.release()
    lines = [json.loads(line) for line in (tmp_path / "run" / "starts.jsonl").read_text().splitlines()]
    told = [(line["global_step"], line["code"], line["layout"]) for line in lines]
    assert told == [(0, "abc", "one actor"), (128, "abd-dirty", "two")]
    assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in lines)


@pytest.mark.parametrize("clone", [True, False])
def test_code_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clone: bool) -> None:
    """Of a clone its commit, marked where a file was changed; elsewhere what the image says."""
    (tmp_path / "learner" / "records").mkdir(parents=True)
    monkeypatch.setattr(run_dir, "__file__", str(tmp_path / "learner" / "records" / "run_dir.py"))
    monkeypatch.setenv("EVERTRACE_VERSION", "of the image")
    if not clone:
        assert code_version() == "of the image"
        monkeypatch.delenv("EVERTRACE_VERSION")
        assert code_version() == "unknown"
        return
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert code_version() == "unknown", "no commit yet"
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert code_version() == head[:12]
    (tmp_path / "file").write_text("2")
    assert code_version() == head[:12] + "-dirty"
