"""One trial, as Ray Tune sees it: an actor that has `launch.py train` run, and tells what that reaches.

    Tune --values--> Trial --words--> launch.py train ... --run-dir OUT/trials/ID/1 --auto-resume
         <--step, metric, a copy of the newest checkpoint--        (a process of its own)

Training does not wait for Tune: a trial that is to stop has gone a little further. A trial through Ray has a
session of its own, within what it reserved. What Tune keeps as the trial's checkpoint is ours: a copy of the
run's newest, with a line that says whose it is. Given its own back, a trial goes on in its own run directory,
which may be further; given another's, it begins a new life from that. Given none, its first life goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from configs.serial import words_of
from learner.records.run_dir import RunDir, RunDirError
from sweeps.lives import STOP, TRIALS, Life, Report, TrialFolder
from sweeps.space import Space

ROOT = Path(__file__).resolve().parents[1]
DIE_WITH_PARENT = ROOT / "envs" / "suites" / "die_with_parent.py"
OWNER = "trial.json"
POLL_S = 0.1
STOP_S = 120.0
"""Within which a run has written its checkpoint and ended."""
TAIL_BYTES = 4000


class TrialError(RuntimeError):
    """Training has ended before its end. The message has the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all trials of a sweep have in common."""

    space: Space
    out: Path


class Trial(tune.Trainable):
    """One trial of a sweep. Tune calls `setup`, or `reset_config` of an actor that another trial has left;
    then `load_checkpoint`, where there is one; then `step` and `save_checkpoint` again and again."""

    def setup(self, config: dict[str, Any], plan: Plan) -> None:
        self._plan, self._process = plan, None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._end()
        self._values = dict(new_config)
        self._config = self._plan.space.config(self._values)
        self._folder = TrialFolder(self._plan.out / TRIALS / self.trial_id)
        self._life: Life | None = None
        self._told: Report | None = None
        return True

    def step(self) -> dict[str, Any]:
        """The next report; waits for it."""
        life = self._life = self._life or self._folder.begin(self._values)
        self._process = self._process or self._start(life)
        metric = self._plan.space.metric
        while True:
            code = self._process.poll()  # before looking: of one that has ended all is on disk
            after = life.step if self._told is None else self._told.step
            found = self._folder.report(life.life, metric, after)
            if found is not None:
                self._told = found
                return self._row(done=found.step >= self._config.total_steps)
            if code is not None:
                return self._ended(life, code)
            if (self._plan.out / STOP).exists():
                self._end()
                time.sleep(1.0)  # nobody waits for an answer any more
                return {"global_step": 0} if self._told is None else self._row()
            time.sleep(POLL_S)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        assert self._life is not None, "Tune saves what has reported"
        copied = self._folder.copy_newest(self._life.life, Path(checkpoint_dir))
        told = None if self._told is None else [self._told.step, self._told.value]
        owner = {"trial": self.trial_id, "life": self._life.life, "checkpoint": copied.name, "told": told}
        (Path(checkpoint_dir) / OWNER).write_text(json.dumps(owner) + "\n", encoding="utf-8")

    def load_checkpoint(self, checkpoint_dir: str | None) -> None:
        assert checkpoint_dir is not None
        owner = json.loads((Path(checkpoint_dir) / OWNER).read_bytes())
        self._end()
        if owner["trial"] == self.trial_id:
            self._life = self._folder.lives()[owner["life"] - 1]
            self._told = None if owner["told"] is None else Report(*owner["told"])
        else:
            found = Path(checkpoint_dir) / owner["checkpoint"]
            self._life = self._folder.begin_from(found, owner["trial"], self._config, self._values)
            self._told = None

    def cleanup(self) -> None:
        self._end()

    # --- the process ---------------------------------------------------------------------------

    def _start(self, life: Life) -> subprocess.Popen[bytes]:
        """Begins the run of this life, or goes on with it, once nobody else does. It dies with us."""
        run_dir = self._folder.run_dir(life.life)
        _wait_until_free(run_dir)
        words = words_of(self._plan.space.settings(self._values) | {"run_dir": str(run_dir)})
        train = [sys.executable, "launch.py", "train", self._plan.space.preset, *words, "--auto-resume"]
        with self._folder.log(life.life).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-IS", str(DIE_WITH_PARENT), str(os.getpid()), *train],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(os.environ, self._plan.space),
                start_new_session=True,  # a Ctrl-C is for whoever waits for all of them
            )

    def _end(self) -> None:
        """The process is gone after this, with a checkpoint where it could write one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _ended(self, life: Life, code: int) -> dict[str, Any]:
        """After the last report. Raises TrialError unless the run ended as it should."""
        self._process = None
        whole = self._told is not None and self._told.step >= self._config.total_steps
        if code == 0 and (whole or (self._told is not None and self._config.time_limit_s is not None)):
            return self._row(done=True)
        if code == 0 and self._told is None:
            why = (
                f"reached no value of {self._plan.space.metric} (raise total_steps, or choose another metric)"
            )
        else:
            why = f"ended with code {code} before its total_steps = {self._config.total_steps}"
        log = self._folder.log(life.life)
        tail = log.read_bytes()[-TAIL_BYTES:].decode("utf-8", errors="replace").rstrip()
        raise TrialError(f"trial {self.trial_id} {why}; the end of {log}:\n{tail}")

    def _row(self, done: bool = False) -> dict[str, Any]:
        assert self._told is not None
        return {"global_step": self._told.step, self._plan.space.metric: self._told.value, "done": done}


def _environment(environment: Mapping[str, str], space: Space) -> dict[str, str]:
    """Of a run: none of Ray's variables, since one through Ray has a session of its own; the trial's CPUs."""
    kept = {name: value for name, value in environment.items() if not name.startswith("RAY_")}
    kept["OMP_NUM_THREADS"] = str(max(1, int(space.resources.cpus)))
    return kept if space.resources.gpus else kept | {"CUDA_VISIBLE_DEVICES": ""}


def _wait_until_free(run_dir: Path) -> None:
    """A run that was killed with its trial may take a moment to be gone. Raises RunDirError if it stays."""
    deadline = time.monotonic() + STOP_S
    while (run_dir / "config.json").exists():
        try:
            RunDir.open(run_dir).release()
            return
        except RunDirError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)
