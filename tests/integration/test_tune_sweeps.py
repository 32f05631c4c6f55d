"""Sweeps as a user meets them: real Ray, real Tune, real training of a T-maze."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from configs.serial import words_of
from launch import main
from learner.records import checkpoint
from sweeps.lives import TRIALS, Life, TrialFolder, ended
from tests.integration.cli import MARK, PATIENCE_S, Launch, read_metrics, rows_logged, wait_until
from tests.integration.cli import ended as process_ended
from tests.learner.loop_runs import different

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("nothing_left")]

LONG_S = 2 * PATIENCE_S
"""For a whole sweep: it starts Ray, Tune and several runs."""
SHORT = {"env.memory.length_min": 4, "env.memory.length_max": 4, "env.memory.quiet": 2}
CORES = len(os.sched_getaffinity(0))
SPACE: dict[str, Any] = {
    "preset": "memory_rtrl",
    # Told by the settings alone, so that who is better is known before.
    "metric": "charts/learning_rate",
    "interval_steps": 2000,
}
ASHA = SPACE | {
    "fixed": {"total_steps": 24_000} | SHORT,
    "space": {"learning_rate": {"loguniform": [1e-4, 1e-2]}, "entropy_cost": {"choice": [0.01, 0.001]}},
    "samples": 3,
    "search": {"name": "optuna", "seed": 0},  # whose first rate is the highest of three
    "scheduler": {"name": "asha", "grace_steps": 4000, "reduction_factor": 2},
    "resources": {"cpus": CORES},  # one trial after the other
}
ALONE = SPACE | {
    "fixed": {"total_steps": 24_000} | SHORT,
    "space": {"learning_rate": {"uniform": [1e-3, 2e-3]}},
    "samples": 1,
}
PBT = SPACE | {
    "interval_steps": 8000,
    "fixed": {"total_steps": 32_000, "checkpoint.keep_last": 100} | SHORT,
    "space": {"learning_rate": {"loguniform": [1e-4, 1e-2]}, "seed": {"grid": [1, 2]}},
    "samples": 1,
    "scheduler": {"name": "pbt", "quantile": 0.5, "mutate": ["learning_rate"]},
    "resources": {"cpus": 0.5},
}


def written(folder: Path, space: dict[str, Any]) -> tuple[str, ...]:
    (folder / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    return ("sweep", str(folder / "space.yaml"), "--out", str(folder / "out"))


def trials(folder: Path) -> dict[str, TrialFolder]:
    return {path.name: TrialFolder(path) for path in (folder / "out" / TRIALS).glob("*")}


def starts(trial: TrialFolder) -> list[int]:
    """Steps at which its training was begun or gone on with, of all lives."""
    files = [trial.run_dir(life.life) / "starts.jsonl" for life in trial.lives()]
    lines = [line for file in files if file.exists() for line in file.read_text().splitlines()]
    return [json.loads(line)["global_step"] for line in lines]


def _training(trial: TrialFolder) -> psutil.Process:
    """The process that trains its first life."""
    for process in psutil.process_iter(["cmdline", "environ"]):
        if (process.info["environ"] or {}).get(MARK) == os.environ[MARK]:
            words = process.info["cmdline"] or []
            if "train" in words and str(trial.run_dir(1)) in words:
                return process
    raise AssertionError(f"nothing trains in {trial.run_dir(1)}")


def _step(folder: Path) -> int:
    """Of the newest checkpoint of a sweep's only trial."""
    (trial,) = trials(folder).values()
    return max(checkpoint.steps(trial.run_dir(1) / "checkpoints"), default=0)


def test_a_trial_that_is_killed_is_taken_up_from_its_checkpoint(launch: Launch, tmp_path: Path) -> None:
    process = launch.start(*written(tmp_path, ALONE))
    wait_until(lambda: len(trials(tmp_path)) == 1 and _step(tmp_path) >= 2000, timeout_s=LONG_S, of=process)
    (trial,) = trials(tmp_path).values()
    _training(trial).kill()
    wait_until(lambda: len(starts(trial)) == 2, timeout_s=LONG_S, of=process)
    actor = _training(trial).parent()
    assert actor is not None
    actor.kill()  # Ray's: the training that it watches dies with it
    code, output = process_ended(process, LONG_S)
    assert code == 0, output
    begun = starts(trial)
    assert len(begun) == 3 and begun[0] == 0 and 2000 <= begun[1] <= begun[2] < 24_000, output
    assert output.count(f"{trial.path.name} goes on from its checkpoint: ") == 2
    assert "ended with code -9 before its total_steps = 24000; the end of " in output
    assert ended(tmp_path / "out") == {trial.path.name: "finished"}
    assert [row["global_step"] for row in read_metrics(trial.run_dir(1))][-1] == 24_000


def test_asha_stops_what_optuna_suggests_and_what_has_ended_is_not_repeated(
    launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, out = written(tmp_path, ASHA), tmp_path / "out"
    process = launch.start(*command)
    wait_until(lambda: len(ended(out)) == 1 and len(trials(tmp_path)) == 2, timeout_s=LONG_S, of=process)
    process.send_signal(signal.SIGINT)
    code, output = process_ended(process, LONG_S)
    assert code == 0, output
    assert "SIGINT: trials write checkpoints and end; the same command goes on" in output
    (first,) = ended(out)
    assert starts(trials(tmp_path)[first]) == [0]

    code, output = launch(*command, timeout_s=LONG_S)
    assert code == 0, output
    assert list(ended(out).values()) == ["finished"] * 3
    found = trials(tmp_path)
    assert len(found) == 3
    assert starts(found[first]) == [0], "it had finished, and was not to be repeated"
    summary = {one["trial"]: one for one in json.loads((out / "summary.json").read_text())["trials"]}
    rates = {name: one["lives"][0]["values"]["learning_rate"] for name, one in summary.items()}
    assert rates[first] == max(rates.values()) and len(set(rates.values())) == 3
    assert {name: one["state"] for name, one in summary.items()} == {
        name: "finished" if name == first else "stopped" for name in found
    }
    assert summary[first]["step"] == 24_000
    assert all(4000 <= one["step"] < 24_000 for name, one in summary.items() if name != first)
    assert (out / "sweep.png").exists() and "| stopped |" in (out / "summary.md").read_text()

    written_at = {file: file.stat().st_mtime_ns for file in out.glob(f"{TRIALS}/*/*/*")}
    assert main(list(command)) == 0, "nothing is left to do"
    assert "| stopped |" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in out.glob(f"{TRIALS}/*/*/*")} == written_at

    assert main(list(written(tmp_path, ASHA | {"samples": 4}))) == 2
    assert "holds another sweep: samples = 3 there, 4 asked for" in capsys.readouterr().err
    (out / "tune").chmod(0o777)
    assert main(list(written(tmp_path, ASHA))) == 2
    assert "tune can be written by others" in capsys.readouterr().err


def test_a_population_goes_on_from_the_best_ones_weights(launch: Launch, tmp_path: Path) -> None:
    command, out = written(tmp_path, PBT), tmp_path / "out"
    process = launch.start(*command)
    _side_by_side(tmp_path, 2, process)
    code, output = process_ended(process, LONG_S)
    assert code == 0, output
    assert list(ended(out).values()) == ["finished"] * 2

    found = trials(tmp_path)
    copies = [(trial, life) for trial in found.values() for life in trial.lives() if life.origin is not None]
    assert copies, output
    for trial, life in copies:
        assert life.origin is not None
        donor, mine = found[life.origin], trial.run_dir(life.life)
        assert donor is not trial
        states = [_state(donor.run_dir(one.life), life.step) for one in donor.lives()]
        theirs = next(state for state in states if state is not None)
        taken = _state(mine, life.step)
        assert taken is not None and different(taken, theirs) == []
        assert f"resumed at step {life.step:,}; every stream goes on" in trial.log(life.life).read_text()
        low, high = SPACE_OF_RATES
        assert low <= life.values["learning_rate"] <= high
    _is_what_train_makes_of_it(*copies[-1], launch, tmp_path / "again")


def _side_by_side(folder: Path, members: int, sweep: subprocess.Popen[str]) -> None:
    """Holds each member up at its first row until all have one: who has ended gives no weights."""
    held: dict[str, psutil.Process] = {}

    def all_held() -> bool:
        for name, trial in trials(folder).items():
            if name not in held and rows_logged(trial.run_dir(1)):
                held[name] = _training(trial)
                held[name].suspend()
        return len(held) == members

    wait_until(all_held, timeout_s=LONG_S, of=sweep)
    for process in held.values():
        process.resume()


SPACE_OF_RATES = PBT["space"]["learning_rate"]["loguniform"]


def _state(run_dir: Path, step: int) -> Any:
    path = checkpoint.steps(run_dir / "checkpoints").get(step)
    return None if path is None else checkpoint.load(path).tensors


def _is_what_train_makes_of_it(trial: TrialFolder, life: Life, launch: Launch, again: Path) -> None:
    """What `train --resume` makes of the checkpoint that a life began from: the same, to the bit."""
    mine = trial.run_dir(life.life)
    name = checkpoint.steps(mine / "checkpoints")[life.step].name
    again.mkdir()
    shutil.copy(mine / "config.json", again)
    shutil.copytree(mine / "checkpoints" / name, again / "checkpoints" / name)
    last = max(checkpoint.steps(mine / "checkpoints"))
    assert last > life.step
    words = words_of({"learning_rate": life.values["learning_rate"]})
    code, output = launch("train", "--resume", str(again), *words)
    assert code == 0, output
    theirs = _state(again, last)
    assert theirs is not None, f"{last} is a step at which both wrote one"
    assert different(_state(mine, last), theirs) == []
