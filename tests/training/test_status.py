"""`status.json` is whole whenever it is read; a disk that refuses it ends nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from learner.records.run_dir import RunDirError
from tests.integration.cli import PATIENCE_S, ROOT
from training.status import STALE_S, Status, described, main, read_status


def test_it_is_whole_whenever_it_is_read(tmp_path: Path) -> None:
    status = Status(tmp_path, 100)
    status.set(actors=[])
    done = threading.Event()

    def write() -> None:
        for turn in range(300):
            status.set(
                state="training" if turn % 2 else "starving", actors=[{"actor": n} for n in range(200)]
            )
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert read_status(tmp_path)["total_steps"] == 100
    writer.join()
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_a_new_state_is_written_at_once_and_starving_comes_and_goes(tmp_path: Path) -> None:
    status = Status(tmp_path, 100)
    for state in ("starting", "training"):
        status.set(state=state)
        assert read_status(tmp_path)["state"] == state
    status.starves("actor 0 waits for a place")
    found = read_status(tmp_path)
    assert (found["state"], found["why"]) == ("starving", "actor 0 waits for a place")
    status.starves("")
    assert (read_status(tmp_path)["state"], read_status(tmp_path)["why"]) == ("training", None)
    status.set(state="stopping", why="stopped by SIGTERM")
    status.starves("actor 0 waits for a place")
    assert read_status(tmp_path)["state"] == "stopping", "what was asked for stands"


def test_the_newest_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step_000000000080").mkdir(parents=True)
    Status(tmp_path, 100).set(state="training")
    assert read_status(tmp_path)["checkpoint"] == "step_000000000080"


def test_a_disk_that_refuses_it_is_told_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = Status(tmp_path / "gone", 100)
    for state in ("training", "stopping"):
        status.set(state=state)
    assert status.errors == 2 and capsys.readouterr().err.count("the run goes on without") == 1


def test_the_verb_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = Status(tmp_path, 2000)
    actors = [
        {"actor": 0, "state": "Working", "pid": 7, "node": "n"},
        {"actor": 1, "state": "Placing", "pid": None},
    ]
    status.set(
        state="training", global_step=1234, steps_per_s=56.7, ranks=[{"pid": 5, "node": "m"}], actors=actors
    )
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for text in (
        "training",
        "step 1,234 of 2,000, 57 steps/s",
        f"pid {os.getpid()}",
        "pid 5 on m",
        "pid 7 on n  Working",
    ):
        assert text in printed
    assert "actor 1  no process  Placing" in printed
    status.set(state="done")
    assert main([str(tmp_path), "--watch"]) == 0, "a run that is over is not waited for"
    printed = capsys.readouterr().out
    assert "done" in printed and "pid" not in printed, "its processes are gone"
    assert main([str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["global_step"] == 1234


def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path: Path) -> None:
    """It goes between two looks, as `head -1` does."""
    Status(tmp_path, 100).set(state="training")
    words = [sys.executable, "launch.py", "status", str(tmp_path), "--watch"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b"training")
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == b""


def test_a_run_that_was_killed_is_known_by_its_age(tmp_path: Path) -> None:
    status = Status(tmp_path, 100)
    status.set(state="training")
    found = read_status(tmp_path)
    assert "was killed" not in described(found, found["wall_time"] + 1)
    assert "was killed" in described(found, found["wall_time"] + STALE_S + 1)
    assert "was killed" not in described(found | {"state": "done"}, found["wall_time"] + STALE_S + 1)


@pytest.mark.parametrize("text", [None, "", "[1]", '{"state": "training"}'])
def test_what_is_no_status_is_refused_by_name(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "status.json").write_text(text)
    with pytest.raises(RunDirError, match=str(tmp_path)):
        read_status(tmp_path)
