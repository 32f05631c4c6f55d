"""Trains for hours while processes are killed and stopped, and holds what is left to account: `make soak`.

    turn 0         turn 1          turn 2         turn 3 ...
    Breakout  ->   T-maze    ->    Breakout  ->   T-maze          each goes on where its last turn was stopped
    |------------ as it is -------------|---- calls are lost and late ----| ...

Each turn begins or resumes a run by the command line, with an object store of 80 MB, shakes it (faults.py),
and ends it by SIGTERM. Every row of its metrics is held to the balance of unrolls (books.py); processes and
folders are sampled (samples.py). Faults are drawn from one seed; when they are due depends on the machine.

Exit codes: 0 everything held; 1 a row that does not balance, a slope above its limit, a run that ended by
itself, or something left behind.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import header
from configs.paths import absolute
from tests.integration.cli import MARK, ROOT, leavings
from tests.soak import report, samples
from tests.soak.books import balance, chain_faults, life_faults
from tests.soak.faults import Faults
from tests.soak.samples import Role, Sample
from tests.soak.watch import Watch

LOOK_S = 0.5
SAMPLE_S = 2.0
END_S = 300.0
"""So long a run may take to end when it is asked to."""
START_S = 300.0
"""So long it may take to its first row."""
LEAVE_S = 60.0
"""So long what has ended may take to be gone."""
NOTICE_S = 120.0
"""So long a learner may take to replace an actor."""

COMMON = shlex.split(
    "--runtime ray --num-actors 4 --num-streams 16 --batch-size 8 --total-steps 1000000000 "
    "--checkpoint.interval-s 10 --log-interval-s 1 --max-policy-lag 40 --ray.object-store-mib 80 "
    "--prefetch off --wandb.mode disabled"
)
RUNS = {
    "breakout": ["atari_breakout_rtrl_cpu", "--time-limit-s", "1000000"],
    "tmaze": ["memory_rtrl"],
}
CALL = "CoreWorkerService.grpc_client.PushTask"
LOSSY = {
    # Of a hundred calls, and of a hundred answers, one is lost, and all are late; microseconds.
    "RAY_testing_rpc_failure": json.dumps(
        {CALL: {"num_failures": 1000, "req_failure_prob": 1, "resp_failure_prob": 1}}
    ),
    "RAY_testing_asio_delay_us": f"CoreWorkerService.grpc_server.PushTask=1000:50000,{CALL}=1000:50000",
}
OURS: tuple[Role, ...] = ("driver", "rank", "actor", "board", "raylet", "gcs")
EACH = ("private_mib", "descriptors", "threads")
LIMITS: dict[tuple[Role, str], float] = {
    **{(role, quantity): 60.0 for role in OURS for quantity in EACH},
    ("raylet", "shm_mib"): 60.0,
    ("files", "run_mib"): 20.0,
    ("files", "session_mib"): 60.0,
}
"""Of growth, an hour, in which some hundred actors are killed: what one descriptor, thread or MiB that is
kept for each of them would be above."""
WARM_S = 300.0
"""Processes settle so long (allocators, gRPC's threads), and do not count: in an hour's soak of before, the
largest slopes after it were +20 MiB, +19 descriptors and +26 threads; after 120 s +86, +64 and +36."""
LEAST_S = 300.0
"""A slope that was seen for less, of all lives together, is shown and held to no limit."""
SPARING = 1 / 3
"""After this part of a turn the learner and its first actor are spared, to show whether they grow."""


@dataclass(slots=True)
class Soak:
    folder: Path
    temporary: Path
    turn_s: float
    faults: Faults
    watches: dict[str, Watch] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    """What is wrong."""
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    _named: set[str] = field(default_factory=set)
    _began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        print(f"{(time.monotonic() - self._began) / 60:6.1f} min  {text}", flush=True)

    def wrong(self, text: str) -> None:
        self.found.append(text)
        self.say(f"FAULT: {text}")

    def turn(self, number: int, run: str, lossy: bool) -> None:
        """Begins a run or goes on with it, shakes it, and stops it."""
        watch = self.watches.setdefault(run, Watch(self.folder / run))
        self.say(f"turn {number}: {run}{', calls are lost and late' if lossy else ''}")
        with self._training(number, run, lossy) as process:
            began, driver = time.monotonic(), psutil.Process(process.pid)
            lives, next_sample = len(watch.lives), 0.0
            while process.poll() is None and (age := time.monotonic() - began) < self.turn_s:
                time.sleep(LOOK_S)
                watch.look(number, lossy)
                if len(watch.lives) == lives:
                    if age > START_S:
                        self.wrong(f"turn {number}: {run} has not begun within {START_S:g} s")
                        break
                elif len(self.starts) == number:
                    self.starts.append(age)
                done = self.faults.step(watch, driver, sparing=age > SPARING * self.turn_s)
                if done is not None:
                    self.say(done)
                if time.monotonic() >= next_sample:
                    next_sample = time.monotonic() + SAMPLE_S
                    self._sample(number, run, process.pid)
            self.faults.release()
            self._end(number, run, process)
        watch.look(number, lossy)
        life = watch.lives[-1] if len(watch.lives) > lives else None
        if life is not None and life.end is None:
            life.end = "stopped" if process.returncode == 0 else "failed"
        for one in watch.lives[lives:]:
            one.end = one.end or "failed"  # another has followed it
        self._look_for_leavings(number)

    def _end(self, number: int, run: str, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is not None:
            self.wrong(f"turn {number}: {run} ended by itself, with {process.returncode}")
            return
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.wrong(f"turn {number}: {run} has not ended within {END_S:g} s")
            return
        self.ends.append(time.monotonic() - asked)
        if code:
            self.wrong(f"turn {number}: {run} was asked to stop, and ended with {code}")

    @contextmanager
    def _training(self, number: int, run: str, lossy: bool) -> Iterator[subprocess.Popen[bytes]]:
        preset, *words = RUNS[run]
        command = [sys.executable, "launch.py", "train", preset, "--run-dir", str(self.folder / run)]
        environment = os.environ | {"TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        with (self.folder / f"turn-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--auto-resume", *words, *COMMON],
                cwd=ROOT,
                env=environment | (LOSSY if lossy else {}),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()

    def _sample(self, number: int, run: str, pid: int) -> None:
        now = time.monotonic()
        found, named = samples.look(pid, number, now)
        self.samples += found
        self._named |= named
        whole = {"run_mib": samples.disk(self.folder / run, but=["metrics.jsonl", "starts.jsonl"])}
        session = {"session_mib": samples.disk(self.temporary)}
        self.samples.append(Sample(("run", run), "files", now, whole))
        self.samples.append(Sample(("session", number), "files", now, session))

    def _look_for_leavings(self, number: int) -> None:
        deadline = time.monotonic() + LEAVE_S
        while (left := leavings(self.temporary) | self._left_in_memory()) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        for one in sorted(left):
            self.wrong(f"turn {number} has left {one}")

    def _left_in_memory(self) -> set[str]:
        return {f"shared memory {name}" for name in self._named if Path(name).exists()}

    def check(self) -> dict[str, Any]:
        """Everything that was seen held to account; the result, but for what it is of."""
        for watch in self.watches.values():
            for life in watch.lives:
                self.found += life_faults(life, NOTICE_S)
            self.found += chain_faults(watch.lives)
        slopes = samples.slopes(self.samples, WARM_S)
        self.found += samples.over_limits(slopes, LIMITS, LEAST_S)
        lives = {run: watch.lives for run, watch in self.watches.items()}
        rows = [
            {
                "role": role,
                "quantity": name,
                "per_hour": slope.per_hour,
                "limit": LIMITS.get((role, name)) if slope.seconds >= LEAST_S else None,
                "largest": slope.largest,
                "lives": slope.lives,
                "seconds": slope.seconds,
            }
            for (role, name), slope in sorted(slopes.items())
        ]
        stops = {"a start or resume to its first row": self.starts, "a SIGTERM to the end": self.ends}
        return {
            "faults": self.found,
            "kills": self.faults.kills,
            "injected": dict(sorted(self.faults.counts.items()))
            | {"stop and resume of the run": len(self.ends)},
            "times": report.returns(self.faults.deaths)
            | {what: report.times(seconds) for what, seconds in stops.items()},
            "balance": {run: balance(of_run) for run, of_run in lives.items()},
            "rows": sum(len(life.rows) for of_run in lives.values() for life in of_run),
            "runs": {
                run: {"steps": of_run[-1].last_step if of_run else 0, "lives": len(of_run)}
                for run, of_run in lives.items()
            },
            "slopes": rows,
        }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.run", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--turn", type=float, help="minutes of a turn; by default a quarter, from 5 to 30")
    parser.add_argument("--every", type=float, default=10.0, help="mean seconds between two faults")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    parser.add_argument("--out", type=absolute, help="a new folder; by default below runs/")
    options = parser.parse_args(arguments)
    turn_s = 60 * (options.turn or min(max(options.minutes / 4, 5.0), 30.0))
    folder: Path = options.out or ROOT / "runs" / f"soak-{time.strftime('%Y%m%d-%H%M%S')}"
    folder.mkdir(parents=True)
    os.environ[MARK] = uuid.uuid4().hex
    machine, began = header(), time.monotonic()
    print(f"seed {options.seed}; what it leaves is in {folder}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/tmp") as temporary:
        soak = Soak(folder, Path(temporary), turn_s, Faults(random.Random(options.seed), options.every))
        turns = max(1, round(60 * options.minutes / turn_s))
        with suppress(KeyboardInterrupt):
            for number in range(turns):
                soak.turn(number, list(RUNS)[number % len(RUNS)], lossy=number // len(RUNS) % 2 == 1)
        result = soak.check()
    result |= {
        "command": f"make soak MINUTES={options.minutes:g} ARGS='--turn {turn_s / 60:g} --every "
        f"{options.every:g} --seed {options.seed}'",
        "seed": options.seed,
        "minutes": (time.monotonic() - began) / 60,
        "turns": turns,
        "turn_s": turn_s,
        "warm_s": WARM_S,
        "every_s": options.every,
        "machine": machine,
    }
    (folder / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    with (folder / "samples.jsonl").open("w") as file:
        file.writelines(json.dumps(dataclasses.asdict(sample)) + "\n" for sample in soak.samples)
    with (folder / "lives.jsonl").open("w") as file:
        lives = [life for watch in soak.watches.values() for life in watch.lives]
        file.writelines(json.dumps(dataclasses.asdict(life)) + "\n" for life in lives)
    text = report.table(result)
    (folder / "soak.md").write_text(text)
    print(text, flush=True)
    return 1 if soak.found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
