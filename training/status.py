"""`RUN_DIR/status.json`: where a run stands now, and the verb that shows it to people and scripts.

    launch.py status RUN_DIR [--watch] [--json]

Written whole about once a second by the process that holds the run directory, so that it can be read on
every machine that sees the folder. A run that was killed says so by its age: nobody writes any more.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

from configs.paths import absolute, write_whole
from learner.records import checkpoint
from learner.records.run_dir import RunDirError

State: TypeAlias = Literal["starting", "training", "starving", "restarting", "stopping", "done", "failed"]

NAME = "status.json"
EVERY_S = 1.0
STALE_S = 30.0
"""A run that is under way writes more often than that."""
OVER = ("done", "failed")


class Status:
    """What is written. A disk that refuses it is told of once, and ends nothing."""

    def __init__(self, run_dir: Path, total_steps: int) -> None:
        self._path, self._checkpoints = run_dir / NAME, run_dir / "checkpoints"
        self._written, self.errors = -float("inf"), 0
        self._fields: dict[str, Any] = {
            "state": "starting",
            "why": None,
            "global_step": 0,
            "total_steps": total_steps,
            "steps_per_s": None,
            "checkpoint": None,
            "learner_restarts": 0,
            "driver": {"pid": os.getpid(), "node": socket.gethostname()},
            "ranks": [],
            "actors": [],
        }

    @property
    def state(self) -> State:
        return self._fields["state"]

    def set(self, **fields: Any) -> None:
        """Takes new values up. A new state is written at once, all else within EVERY_S."""
        changed = fields.get("state", self.state) != self.state
        self._fields.update(fields)
        if changed or time.monotonic() - self._written >= EVERY_S:
            self._write()

    def starves(self, why: str) -> None:
        """`why`: nothing comes to the learner; empty: something does."""
        if why and self.state == "training":
            self.set(state="starving", why=why)
        elif not why and self.state == "starving":
            self.set(state="training", why=None)

    def _write(self) -> None:
        self._written = time.monotonic()
        try:
            newest = checkpoint.newest(self._checkpoints)
            self._fields["checkpoint"] = None if newest is None else newest.name
            document = {"wall_time": round(time.time(), 3)} | self._fields
            write_whole(self._path, json.dumps(document, indent=1), lasting=False)  # the next comes soon
        except (OSError, checkpoint.CheckpointError) as error:
            if self.errors == 0:
                print(f"{self._path} cannot be written ({error}): the run goes on without", file=sys.stderr)
            self.errors += 1


def read_status(run_dir: Path) -> dict[str, Any]:
    """Raises RunDirError where no run has written one, or where it is not one."""
    path = run_dir / NAME
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise RunDirError(
            f"{run_dir} has no {NAME}: no run has begun there, or its learner is not built yet"
        ) from error
    except (OSError, ValueError) as error:
        raise RunDirError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not found.keys() >= {"wall_time", "state", "global_step"}:
        raise RunDirError(f"{path} is not the status of a run")
    return found


def described(status: dict[str, Any], now: float) -> str:
    """The lines that `launch.py status` prints. `now`: Unix seconds."""
    age = max(0.0, now - status["wall_time"])
    state = status["state"] + (f": {status['why']}" if status.get("why") else "")
    lines = [f"{state} (written {age:.0f} s ago)"]
    if status["state"] not in OVER and age > STALE_S:
        lines[0] += (
            ". Nothing is written any more: the run was killed, its machine was lost, or its disk is full"
        )
    rate = status.get("steps_per_s")
    step, total = status["global_step"], status.get("total_steps")
    lines.append(f"step {step:,} of {total:,}" + ("" if rate is None else f", {rate:,.0f} steps/s"))
    lines.append(f"newest checkpoint {status.get('checkpoint')}")
    lines.append(f"learner restarts {status.get('learner_restarts')}")
    if status["state"] in OVER:
        return "\n".join(lines)
    rows = [("driver", status.get("driver") or {})]
    rows += [(f"rank {number}", rank) for number, rank in enumerate(status.get("ranks") or [])]
    for actor in status.get("actors") or []:
        of = f" of rank {actor['rank']}" if "rank" in actor else ""
        rows.append((f"actor {actor.get('actor')}{of}", actor))
    for name, row in rows:
        place = f"pid {row['pid']} on {row.get('node')}" if row.get("pid") else "no process"
        lines.append(f"{name:>10}  {place}" + (f"  {row['state']}" if row.get("state") else ""))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="launch.py status", description="Where a training run stands.")
    parser.add_argument("run_dir", type=absolute)
    parser.add_argument("--watch", action="store_true", help="again and again, until the run is over")
    parser.add_argument("--json", action="store_true", help="the file itself, in one line")
    options = parser.parse_args(arguments)
    try:
        while True:
            status = read_status(options.run_dir)
            print(json.dumps(status) if options.json else described(status, time.time()), flush=True)
            if not options.watch or status["state"] in OVER:
                return 0
            time.sleep(EVERY_S)
            print(flush=True)
    except BrokenPipeError:  # `| head`: who read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what the interpreter flushes
        return 0
