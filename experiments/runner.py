"""`launch.py experiment NAME`: every arm of a named experiment, on every seed, to a table and a figure.

    OUT/runs/ARM-seedS/       the run, as `launch.py train` leaves it
    OUT/runs/ARM-seedS.json   its command line, and its wall time once it has finished
    OUT/runs/ARM-seedS.log    all that it printed
    OUT/results.jsonl         one window of one run a line: arm, seed, step, metric, value, episodes
    OUT/summary.json, OUT/summary.md, OUT/NAME.png, OUT/NAME.svg

A run is one process with one thread; several run side by side. A finished run is not repeated, so that the
same command goes on where it was interrupted, and more seeds are added by naming them beside the old ones.
An unfinished run starts again from nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from configs.error import require
from configs.machine import available_cores
from configs.parts import MAX_SEED
from configs.paths import path_argument, write_whole
from configs.schema import ConfigError
from experiments.catalogue import Experiment, get, names
from learner.records.run_dir import RunDir, RunDirError
from training.signals import unwind_on_stop

ROOT = Path(__file__).resolve().parents[1]
WINDOWS = 50
"""Rows that a run writes: a window is a fiftieth of its training."""
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """One arm on one seed, and where it is kept."""

    arm: str
    seed: int
    total_steps: int
    folder: Path
    arguments: tuple[str, ...]
    """What follows `launch.py train`, but for the run directory."""
    after: Path | None = None
    """Folder of the run that has to end before this one starts."""

    @property
    def record(self) -> Path:
        return self.folder.with_name(self.folder.name + ".json")

    @property
    def log(self) -> Path:
        return self.folder.with_name(self.folder.name + ".log")

    def seconds(self) -> float | None:
        """Wall time of the finished run; None if it has not finished.

        Raises ConfigError if what stands there is another run than this one.
        """
        if not self.folder.exists():
            return None
        if not self.record.exists():
            raise ConfigError(
                f"{self.folder} was not made by this experiment: move it, or choose another --out"
            )
        record = json.loads(self.record.read_text(encoding="utf-8"))
        if record["arguments"] != list(self.arguments):
            raise ConfigError(
                f"{self.folder} is a run with other settings, `{shlex.join(record['arguments'])}`, where "
                f"`{shlex.join(self.arguments)}` was asked for: choose another --out, or remove that run"
            )
        return record["seconds"]

    def write_record(self, seconds: float | None) -> None:
        """Whole or not at all; `seconds` is None until the run has finished."""
        write_whole(self.record, json.dumps({"arguments": self.arguments, "seconds": seconds}) + "\n")

    def clear(self) -> None:
        """Removes what a run left that did not finish. Raises ConfigError where that one still trains: an
        experiment that was killed leaves it behind."""
        try:
            if self.folder.exists():
                RunDir.remove(self.folder)
        except RunDirError as error:
            raise ConfigError(f"of an earlier experiment in this --out a run is left: {error}") from error

    def start(self) -> subprocess.Popen[bytes]:
        self.write_record(None)
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "launch.py", "train", *self.arguments, "--run-dir", str(self.folder)],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )


@dataclass(frozen=True, slots=True)
class Failure:
    run: Run
    exit_code: int


def plan(
    experiment: Experiment, out: Path, arms: list[str], seeds: list[int], steps: int | None
) -> list[Run]:
    """All runs, seed by seed, so that every arm has some seeds early. `steps` replaces every arm's own."""
    runs = []
    for seed in seeds:
        for name in arms:
            arm, total = experiment.arms[name], steps or experiment.steps(name)
            fixed = {
                "--seed": seed,
                "--total-steps": total,
                "--runtime": "inline",  # an arm's own word comes later, and wins
                "--wandb.mode": "disabled",
                "--log-interval-s": 1e-9,  # so that the steps alone decide
                "--log-interval-steps": max(total // WINDOWS, 1),
            }
            words = [str(word) for pair in fixed.items() for word in pair]
            folder = out.resolve() / "runs" / f"{name}-seed{seed}"
            before = folder.with_name(f"{arm.after}-seed{seed}") if arm.after else None
            overrides = shlex.split(experiment.overrides(name))
            if before is not None:
                overrides = [word.format(before=before) for word in overrides]
            runs.append(Run(name, seed, total, folder, (arm.preset, *words, *overrides), before))
    return runs


def execute(runs: list[Run], jobs: int) -> list[Failure]:
    """Runs those that have not finished, `jobs` at a time; the others go on when one fails. What comes after
    a run that failed fails by itself, for want of what it was to take. Raises ConfigError as `Run.clear`."""
    unfinished = [run for run in runs if run.seconds() is None]
    print(f"{len(runs)} runs, {len(runs) - len(unfinished)} of them finished before", flush=True)
    for run in unfinished:
        run.clear()
    waiting, done = unfinished.copy(), 0
    running: dict[subprocess.Popen[bytes], tuple[Run, float]] = {}
    failures: list[Failure] = []
    try:
        while waiting or running:
            ahead = {run.folder for run in waiting} | {run.folder for run, _ in running.values()}
            for run in [run for run in waiting if run.after not in ahead][: jobs - len(running)]:
                waiting.remove(run)
                running[run.start()] = (run, time.monotonic())
            for process in [p for p in running if p.poll() is not None]:
                run, started = running.pop(process)
                seconds, done = time.monotonic() - started, done + 1
                head = f"[{done}/{len(unfinished)}] {run.arm}, seed {run.seed}"
                if process.returncode == 0:
                    run.write_record(round(seconds, 1))
                    print(f"{head}: {seconds:.1f} s", flush=True)
                else:
                    failures.append(Failure(run, process.returncode))
                    output = run.log.read_text(encoding="utf-8", errors="replace").rstrip()
                    print(f"{head}: FAILED with exit code {process.returncode}:\n{output}", flush=True)
            time.sleep(POLL_S)
    finally:  # interrupted: no run outlives the experiment
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return failures


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch.py experiment", description=f"Experiments: {', '.join(names())}."
    )
    parser.add_argument("name", help="a file of experiments/catalogue")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: the experiment's")
    parser.add_argument("--arms", nargs="+", help="default: the experiment's first ones, or all")
    parser.add_argument("--out", type=path_argument, help="default: runs/experiments/NAME")
    parser.add_argument("--jobs", type=int, default=available_cores(), help="runs at a time")
    parser.add_argument("--total-steps", type=int, help="agent steps of every run, instead of the arms' own")
    options = parser.parse_args(arguments)
    experiment = get(options.name)
    options.seeds = list(experiment.seeds) if options.seeds is None else options.seeds
    options.arms = list(experiment.first or experiment.arms) if options.arms is None else options.arms
    options.out = options.out or Path("runs/experiments") / experiment.name
    unknown = [arm for arm in options.arms if arm not in experiment.arms]
    if unknown:
        raise ConfigError(f"--arms {unknown[0]}: {experiment.name} has {', '.join(experiment.arms)}")
    for arm in options.arms:
        before = experiment.arms[arm].after
        if before not in ("", *options.arms):
            raise ConfigError(f"--arms {arm}: takes what {before} has learned: name that one too")
    for name in ("seeds", "arms"):
        values = getattr(options, name)
        if len(set(values)) < len(values):
            raise ConfigError(f"--{name} {' '.join(map(str, values))}: one of them is named twice")
    for seed in (min(options.seeds), max(options.seeds)):
        require(0 <= seed <= MAX_SEED, "--seeds", seed, f"needs 0 to {MAX_SEED}")
    for name, value in (("--jobs", options.jobs), ("--total-steps", options.total_steps)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} {value}: needs at least 1")
    return options


def claim(out: Path, what: str, stack: ExitStack) -> None:
    """Nobody else writes to OUT until `stack` ends. Raises ConfigError where another `what` is at work."""
    try:
        stack.enter_context(FileLock(out / ".lock", timeout=0))
    except Timeout as error:
        raise ConfigError(
            f"--out {out} is in use by another {what}: wait for it to end, or choose another"
        ) from error


def own(out: Path, experiment: str) -> None:
    """OUT is this experiment's. Raises ConfigError where it has the results of another one."""
    path = out / "experiment"
    if not path.exists():
        write_whole(path, experiment + "\n")
    found = path.read_text(encoding="utf-8").strip()
    if found != experiment:
        raise ConfigError(f"--out {out} holds the experiment {found}: choose another, or remove that one")


def conduct(
    experiment: Experiment,
    *,
    out: Path,
    arms: list[str],
    seeds: list[int],
    jobs: int,
    total_steps: int | None = None,
) -> int:
    """Runs what has not run yet, then sums up these arms and seeds. Returns 0, or 1 where a run failed.

    Raises ConfigError, before any run starts, where `out` cannot be used as asked.
    """
    try:
        from experiments import plots, summary
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"experiment needs the package {error.name!r}, which is not installed: "
            "pip install -c constraints.txt matplotlib scipy"
        ) from error
    runs = plan(experiment, out, arms, seeds, total_steps)
    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out} is no folder that can be written to: {error}") from error
    with ExitStack() as stack:
        claim(out, "experiment", stack)
        own(out, experiment.name)
        unwind_on_stop(stack)
        failures = execute(runs, jobs)
        failed = [failure.run for failure in failures]
        curves = summary.read_curves([run for run in runs if run not in failed], experiment)
        summary.write_results(out / "results.jsonl", curves, experiment)
        result = summary.summarise(experiment, curves, jobs=jobs)
        result["failed"] = [
            {"arm": f.run.arm, "seed": f.run.seed, "exit_code": f.exit_code} for f in failures
        ]
        (out / "summary.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        text = summary.markdown(experiment, result)
        (out / "summary.md").write_text(text, encoding="utf-8")
        if drawn := [curve for curve in curves if not curve.short]:
            plots.draw(experiment, result, drawn, out / experiment.name)
    print(f"\n{text}\nsaved in {out}")
    return 1 if failures or result["short"] else 0


def main(arguments: list[str]) -> int:
    """Returns 0, or 1 where a run failed. Raises ConfigError for input that cannot be used."""
    options = parse(arguments)
    return conduct(
        get(options.name),
        out=options.out,
        arms=options.arms,
        seeds=options.seeds,
        jobs=options.jobs,
        total_steps=options.total_steps,
    )
